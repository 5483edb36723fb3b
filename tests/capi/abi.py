#!/usr/bin/env python3
"""The gates of the ABI promise, one per verb. Exit code 77: what the gate needs is not installed.

    abi.py symbols LIB symbols.txt          exported symbols, both ways
    abi.py header troupe.h [troupe.hpp]     each header alone, every language level, all warnings
    abi.py prototypes troupe.h OLD.h        every function of an older header is declared the same today
    abi.py abidiff LIB troupe.abi troupe.abignore   against the recorded description
    abi.py record LIB troupe.abi troupe.abignore    write it (in the commit that changes the header)
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def symbols(library, listed):
    out = run("nm", "-D", "--defined-only", library).stdout
    shown = {line.split()[-1].split("@")[0] for line in out.splitlines() if line.strip()}
    shown = {s for s in shown if not re.match(r"TROUPE_\d", s)}  # the version nodes themselves
    with open(listed, encoding="utf-8") as file:
        wanted = set(file.read().split())
    for name in sorted(shown - wanted):
        print(f"{library} shows {name}, which {listed} does not list: hide it or list it")
    for name in sorted(wanted - shown):
        print(f"{library} lacks {name}, which {listed} promises")
    return 0 if shown == wanted and wanted else 1


WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror",
            "-fsyntax-only")


def header(c_header, cpp_header=None):
    runs = [(c, "c", s, c_header) for c in ("gcc", "clang") for s in ("c99", "c11")]
    for standard in ("c++11", "c++17", "c++20"):
        runs += [(c, "c++", standard, c_header) for c in ("g++", "clang++")]
    if cpp_header:
        runs += [(c, "c++", s, cpp_header) for c in ("g++", "clang++") for s in ("c++17", "c++20")]
    failed, done = 0, 0
    for compiler, language, standard, path in runs:
        if not shutil.which(compiler):
            print(f"skipped: {compiler} is not installed")
            continue
        with tempfile.NamedTemporaryFile("w", suffix=".c" if language == "c" else ".cpp") as file:
            file.write(f'#include "{os.path.abspath(path)}"\n')
            file.flush()
            result = run(compiler, "-x", language, f"-std={standard}", *WARNINGS, file.name)
        done += 1
        if result.returncode:
            failed += 1
            print(f"{compiler} -std={standard} {path}:\n{result.stderr}")
    return 1 if failed or not done else 0


def prototypes(today, old):
    """The compiler is the judge: what the older header declared is declared once more behind today's."""
    with open(old, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    declared = re.findall(r"^TROUPE_API [^;]*;", text, flags=re.S | re.M)
    names = [re.search(r"(troupe_\w+)\(", declaration).group(1) for declaration in declared]
    program = f'#include "{os.path.abspath(today)}"\n' + "\n".join(declared)
    program += "\nvoid *all[] = {" + ", ".join(f"(void *){name}" for name in names) + "};\n"
    with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
        # Without today's own declarations, the older ones would stand for them.
        missing = [n for n in names if not re.search(rf"\b{n}\(", _declarations(today))]
        file.write(program)
        file.flush()
        result = run("cc", "-std=c11", "-fsyntax-only", file.name)
    for name in missing:
        print(f"{today} lacks {name}, which {old} promises")
    if result.returncode:
        print(f"{today} declares otherwise than {old}:\n{result.stderr}")
    return 1 if missing or result.returncode or not names else 0


def _declarations(header_path):
    with open(header_path, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    return "\n".join(re.findall(r"^TROUPE_API [^;]*;", text, flags=re.S | re.M))


# Only what troupe.h declares: the types behind the handles are left out by the suppressions.
SCOPE = ("--exported-interfaces-only", "--suppressions")


def record(library, target, ignored):
    if not shutil.which("abidw"):
        print("skipped: abidw is not installed (Debian: abigail-tools)")
        return SKIPPED
    result = run("abidw", "--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", *SCOPE,
                 ignored, "--out-file", target, library)
    print(result.stdout + result.stderr, end="")
    return result.returncode


def abidiff(library, recorded, ignored):
    if not shutil.which("abidiff"):
        print("skipped: abidiff is not installed (Debian: abigail-tools)")
        return SKIPPED
    result = run("abidiff", "--no-added-syms", *SCOPE, ignored, recorded, library)
    if result.returncode == 0:
        return 0
    print(result.stdout + result.stderr)
    print(f"the ABI differs from {recorded}. If the change only appends (layout.c still compiles), "
          f"record it in the same commit:\n  tests/capi/abi.py record {library} {recorded} {ignored}")
    return 1


if __name__ == "__main__":
    VERBS = {"symbols": symbols, "header": header, "prototypes": prototypes, "abidiff": abidiff,
             "record": record}
    if len(sys.argv) < 3 or sys.argv[1] not in VERBS:
        sys.exit(__doc__)
    sys.exit(VERBS[sys.argv[1]](*sys.argv[2:]))
