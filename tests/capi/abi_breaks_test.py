#!/usr/bin/env python3
"""Breaks the ABI in every way that the promise names, and demands that a gate sees it.

    abi_breaks_test.py LIBRARY SOURCE_DIR      exit code 77: abidiff is not installed

Nothing is rebuilt: the header is broken and layout.c is held against it, the lists and the recorded description are
changed and the library is held against them. What differs is a break, whichever side it came from.
"""
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile

import abi

SKIPPED = 77


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def changed(text, pattern, replacement):
    """One change, and not none: a pattern that no longer matches is a test that no longer tests."""
    after, count = re.subn(pattern, replacement, text, count=1, flags=re.S | re.M)
    if not count or after == text:
        sys.exit(f"abi_breaks_test.py: /{pattern}/ changes nothing: the header has moved on, follow it")
    return after


# What breaks programs that were built before: (name, pattern, replacement).
HEADER_BREAKS = [
    ("a field removed", r"^  int64_t cached_tokens; [^\n]*\n", ""),
    ("a field inserted in the middle", r"^(  int64_t queued_ns;)", r"  int32_t hurried;\n  int32_t padding;\n\1"),
    ("two fields swapped", r"^(  int32_t index; [^\n]*\n)(.*?)^(  int64_t from; [^\n]*\n)", r"\3\2\1"),
    ("a field widened", r"^  int32_t max_tokens; ", "  int64_t max_tokens; "),
    ("a field narrowed", r"^  uint64_t capabilities;", "  uint32_t capabilities;"),
    ("a field renamed", r"^  int32_t tensor_parallel;", "  int32_t tensor_parallelism;"),
    ("an enumerator renumbered", r"TROUPE_ERROR_LIMIT = 2,", "TROUPE_ERROR_LIMIT = 20,"),
    ("an enumerator removed", r"^  TROUPE_FINISH_LENGTH = 2,[^\n]*\n", ""),
    ("a bit moved", r"TROUPE_CAN_SERVE = 1 << 10", "TROUPE_CAN_SERVE = 1 << 11"),
    ("the sentinel changed", r"#define TROUPE_UNSET INT64_MIN", "#define TROUPE_UNSET INT64_MAX"),
]


def layout_holds(header, layout, folder):
    with open(os.path.join(folder, "troupe.h"), "w", encoding="utf-8") as file:
        file.write(header)
    return subprocess.run(["cc", "-std=c11", "-fsyntax-only", f"-I{folder}", layout], capture_output=True,
                          check=False).returncode == 0


def gate(function, *arguments):
    """What a gate returns; what it prints is of no interest here."""
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


class Breaks:
    def __init__(self):
        self.unseen = []
        self.count = 0

    def expect(self, name, seen):
        self.count += 1
        if not seen:
            self.unseen.append(name)


def header_breaks(breaks, source, folder):
    header, layout = read(f"{source}/capi/troupe.h"), f"{source}/tests/capi/layout.c"
    if not layout_holds(header, layout, folder):
        sys.exit("abi_breaks_test.py: layout.c does not even hold for the header as it is")
    for name, pattern, replacement in HEADER_BREAKS:
        breaks.expect(name, not layout_holds(changed(header, pattern, replacement), layout, folder))
    path = os.path.join(folder, "troupe.h")
    for name, pattern, replacement in (
            ("a field without its assertion", r"^(  int64_t data_columns;)", r"\1\n  int64_t invented;"),
            ("a constant without its assertion", r"(  TROUPE_LOG_OFF = 5)", r"\1,\n  TROUPE_LOG_DEAF = 6")):
        with open(path, "w", encoding="utf-8") as file:
            file.write(changed(header, pattern, replacement))
        done = subprocess.run([sys.executable, f"{source}/tests/capi/make_layout.py", "--check", path, layout],
                              capture_output=True, check=False)
        breaks.expect(name, done.returncode != 0)
    for name, pattern, replacement in (
            ("a header that is not C", r"^(#define TROUPE_UNSET)", r"enum class Colour { red };\n\1"),
            ("a header that C++ refuses", r"^(typedef struct troupe_engine troupe_engine;)", r"\1\nextern int class;"),
            ("a header that needs another one", r"#include <stdint.h>\n", "")):
        with open(path, "w", encoding="utf-8") as file:
            file.write(changed(header, pattern, replacement))
        breaks.expect(name, gate(abi.header, path) != 0)


def library_breaks(breaks, library, source, folder):
    capi = f"{source}/capi"
    listed, path = read(f"{capi}/symbols.txt"), os.path.join(folder, "symbols.txt")
    for name, text in (("a symbol that vanished", listed + "troupe_promised\n"),
                       ("a symbol that nobody listed", changed(listed, r"^troupe_submit\n", ""))):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        breaks.expect(name, gate(abi.symbols, library, path) != 0)
    if not shutil.which("abidiff"):
        return False
    recorded, path = read(f"{capi}/troupe.abi"), os.path.join(folder, "troupe.abi")
    ignored = f"{capi}/troupe.abignore"
    if gate(abi.abidiff, library, f"{capi}/troupe.abi", ignored) != 0:
        sys.exit("abi_breaks_test.py: the library differs from troupe.abi as it is: see capi.abi.abidiff")
    function = r"(<function-decl name='troupe_%s'[^>]*>)(.*?)(</function-decl>)"
    parameter = r"\s*<parameter [^>]*/>"
    for name, pattern, replacement in (
            ("a function removed", r"(<elf-symbol name='troupe_)cancel'", r"\1cancelled'"),
            ("a parameter removed", function % "cancel", lambda m: m[1] + re.sub(parameter, "", m[2], count=1) + m[3]),
            ("a parameter added", function % "error_name",
             lambda m: m[1] + re.sub(f"({parameter})", r"\1\1", m[2], count=1) + m[3]),
            ("parameters swapped", function % "detokenize",
             lambda m: m[1] + re.sub(f"({parameter})({parameter})", r"\2\1", m[2], count=1) + m[3]),
            ("a struct of another size", r"(<class-decl name='troupe_event' size-in-bits=')1728'", r"\g<1>1664'")):
        with open(path, "w", encoding="utf-8") as file:
            file.write(changed(recorded, pattern, replacement))
        breaks.expect(name, gate(abi.abidiff, library, path, ignored) not in (0, abi.SKIPPED))
    return True


def prototype_breaks(breaks, source, folder):
    old = f"{source}/tests/capi/abi/troupe-0.1.h"
    header, path = read(f"{source}/capi/troupe.h"), os.path.join(folder, "troupe.h")
    for name, pattern, replacement in (
            ("nothing", None, None),
            ("a handle that became another", r"troupe_cancel\(troupe_engine \*engine", "troupe_cancel(troupe_queue *engine"),
            ("a parameter of another size", r"(troupe_cancel\([^)]*)uint64_t id", r"\1uint32_t id"),
            ("a parameter more", r"(troupe_queue_wake\(troupe_queue \*queue)", r"\1, int32_t times"),
            ("another answer", r"TROUPE_API void troupe_queue_wake", "TROUPE_API int troupe_queue_wake"),
            ("a promise that is gone", r"^TROUPE_API void troupe_queue_wake[^;]*;", "")):
        with open(path, "w", encoding="utf-8") as file:
            file.write(header if pattern is None else changed(header, pattern, replacement))
        done = gate(abi.prototypes, path, old)
        if pattern is None and done:
            sys.exit("abi_breaks_test.py: the header as it is breaks its predecessor: see capi.abi.prototypes")
        if pattern is not None:
            breaks.expect(name, done != 0)


def main():
    library, source = sys.argv[1:]
    breaks = Breaks()
    with tempfile.TemporaryDirectory() as folder:
        header_breaks(breaks, source, folder)
        prototype_breaks(breaks, source, folder)
        whole = library_breaks(breaks, library, source, folder)
    for name in breaks.unseen:
        print(f"no gate sees {name}")
    print(f"{breaks.count - len(breaks.unseen)} of {breaks.count} breaks are seen")
    return 1 if breaks.unseen else 0 if whole else SKIPPED


if __name__ == "__main__":
    sys.exit(main())
