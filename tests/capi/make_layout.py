#!/usr/bin/env python3
"""Writes layout.c: an assertion on the offset of every published field of troupe.h.

    tests/capi/make_layout.py capi/troupe.h tests/capi/layout.c

It only ever appends: an assertion that is there stays as it is, so a field that moved, vanished or
changed its size makes layout.c fail to compile. New fields and constants get new assertions, with
the values of this machine's compiler (x86-64 and arm64 agree). --check: fail if anything is missing.
"""
import os
import re
import subprocess
import sys
import tempfile

HEAD = """/* The layout of troupe.h, frozen: written by make_layout.py, which only appends. A line that fails
 * means that programs built against an earlier header would break. */
#include <stddef.h>

#include <troupe.h>

#define FIELD(type, field, offset, size)                                          \\
  _Static_assert(offsetof(type, field) == (offset), #type "." #field " has moved"); \\
  _Static_assert(sizeof(((type *)0)->field) == (size), #type "." #field " has another size")
#define CONSTANT(name, value) _Static_assert((name) == (value), #name " has another value")
#define AT_LEAST(type, size) _Static_assert(sizeof(type) >= (size), #type " has shrunk")

"""
TAIL = "\nint main(void) { return 0; }\n"


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def fields_of(header):
    for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", header, flags=re.S):
        for declaration in filter(str.strip, body.split(";")):
            function = re.search(r"\(\*(\w+)\)", declaration)
            field = function or re.search(r"(\w+)(\[\d+\])?\s*$", declaration)
            yield name, field.group(1)


def constants_of(header):
    for body in re.findall(r"enum \{(.*?)\};", header, flags=re.S):
        yield from re.findall(r"(TROUPE_\w+)\s*=", body)
    yield "TROUPE_UNSET"


def evaluate(path, lines):
    """What the compiler says of each printf argument."""
    program = '#include <stddef.h>\n#include <stdio.h>\n#include "%s"\n' % os.path.abspath(path)
    program += "int main(void) {\n%s\n}\n" % "\n".join(lines)
    with tempfile.TemporaryDirectory() as folder:
        source, binary = folder + "/a.c", folder + "/a"
        with open(source, "w", encoding="utf-8") as file:
            file.write(program)
        subprocess.run(["cc", "-std=c11", source, "-o", binary], check=True)
        return subprocess.run([binary], check=True, capture_output=True, text=True).stdout


def wanted(path):
    with open(path, encoding="utf-8") as file:
        header = without_comments(file.read())
    lines, last = [], None
    for struct, field in fields_of(header):
        if struct != last:
            lines.append('printf("AT_LEAST(%s, %%zu);\\n", sizeof(%s));' % (struct, struct))
            last = struct
        lines.append('printf("FIELD({0}, {1}, %zu, %zu);\\n", offsetof({0}, {1}), '
                     "sizeof((({0} *)0)->{1}));".format(struct, field))
    for name in constants_of(header):
        value = "INT64_MIN" if name == "TROUPE_UNSET" else "%lld"
        lines.append('printf("CONSTANT(%s, %s);\\n", (long long)%s);' % (name, value, name)
                     if value == "%lld" else 'printf("CONSTANT(%s, %s);\\n");' % (name, value))
    return evaluate(path, lines).splitlines()


def main():
    check = "--check" in sys.argv
    header, target = [a for a in sys.argv[1:] if a != "--check"]
    kept = []
    if os.path.exists(target):
        with open(target, encoding="utf-8") as file:
            kept = re.findall(r"^(?:FIELD|CONSTANT|AT_LEAST)\(.*\);$", file.read(), flags=re.M)
    kept = [line for line in kept if "#" not in line]
    known = {re.sub(r", -?\w+(, \d+)?\);$", "", line) for line in kept}
    fresh = [line for line in wanted(header)
             if re.sub(r", -?\w+(, \d+)?\);$", "", line) not in known]
    if check:
        if fresh:
            print("layout.c lacks:\n  " + "\n  ".join(fresh) +
                  "\nrun: tests/capi/make_layout.py capi/troupe.h tests/capi/layout.c")
        return 1 if fresh else 0
    with open(target, "w", encoding="utf-8") as file:
        file.write(HEAD + "\n".join(kept + fresh) + "\n" + TAIL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
