"""dev/tidy: holds the tree to its own rules. Each rule is one function from a file to findings."""

import re
import subprocess
import sys
from pathlib import Path

# A room may include itself and the rooms before it (docs/architecture.md).
ROOMS = ["base", "kernels", "text", "models", "vision", "engine", "actors", "wire", "capi",
         "openai", "http", "cli"]
# Written against troupe.h alone: of our rooms they may include only capi's public headers.
ON_THE_ABI = {"openai", "http", "cli", "examples"}
# … but for the example of a backend, which is written against the op interface.
ON_THE_OPS = ("examples", "backend")
SOURCE = {".cpp", ".hpp", ".h", ".c", ".cu", ".cuh"}
# Third-party headers and the only rooms that may include them.
FENCED = {"caf/": {"actors"}, "zmq": {"wire"}, "opencv2/": {"vision"}, "msgpack": {"wire"}}
BANNED = [
    (re.compile(r"\bgetenv\s*\("), "getenv outside cli/ and bench/", lambda p: p.parts[0] not in {"cli", "bench"}),
    (re.compile(r"std::endl"), "std::endl flushes: write '\\n'", lambda p: True),
    (re.compile(r"\bcaf::infinite\b"), "no wait without a deadline", lambda p: True),
    (re.compile(r"sleep_for\s*\("), "sleep_for outside tests",
     lambda p: not is_test(p) and p.parts[0] not in {"bench", "examples"}),
    (re.compile(r"\bFIXME\b|\bXXX\b"), "an unfinished thought", lambda p: True),
    (re.compile(r"\bcudaDeviceSynchronize\b"), "cudaDeviceSynchronize outside benches",
     lambda p: not is_test(p) and p.parts[0] != "bench"),
]
LEFTOVERS = re.compile(r"/work/|\.\./shared")
LINES_MAX = 500
BYTES_MAX = 200_000


def is_test(path: Path) -> bool:
    return "test" in path.name or "fuzz" in path.name or path.parts[0] == "tests"


def include_direction(path: Path, lines: list[str]):
    room = path.parts[0]
    for number, line in enumerate(lines, 1):
        match = re.match(r'\s*#\s*include\s+["<]([^">]+)[">]', line)
        if not match:
            continue
        target = match.group(1)
        head = target.split("/")[0]
        if path.parts[:2] == ON_THE_OPS and head in {"base", "kernels"}:
            continue
        if head in ROOMS and "/" in target:
            if room in ROOMS and room not in ON_THE_ABI and ROOMS.index(head) > ROOMS.index(room):
                yield number, f"{room}/ may not include {target}: its room stands below"
            if room in ON_THE_ABI and head not in ON_THE_ABI and target not in (
                    "capi/troupe.h", "capi/troupe.hpp"):
                yield number, f"{room}/ is written against troupe.h and may not include {target}"
        for prefix, rooms in FENCED.items():
            if target.startswith(prefix) and room not in rooms and room != "bench":
                yield number, f"{target} may be included in {', '.join(sorted(rooms))}/ only"


def banned_calls(path: Path, lines: list[str]):
    for number, line in enumerate(lines, 1):
        code = line.split("//")[0]
        for pattern, why, applies in BANNED:
            if pattern.search(code) and applies(path):
                yield number, why


def leftovers(path: Path, lines: list[str]):
    if path.name == "tidy.py":
        return
    for number, line in enumerate(lines, 1):
        if LEFTOVERS.search(line):
            yield number, "names a path of somebody's machine"


def opening_comment(path: Path, lines: list[str]):
    if path.suffix in {".hpp", ".cuh", ".h"} and lines and not lines[0].startswith(("//", "/*")):
        yield 1, "a header opens with a comment: what it is for"


def main(root: Path) -> int:
    names = subprocess.run(["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"],
                           check=True, capture_output=True, text=True).stdout.split("\n")
    wrong, long_files = [], []
    for name in filter(None, names):
        path, full = Path(name), root / name
        if not full.is_file() or full.is_symlink():
            continue
        data = full.read_bytes()
        if b"\0" in data[:4096]:
            continue
        lines = data.decode("utf-8", "replace").split("\n")
        rules = [leftovers]
        if path.suffix in SOURCE:
            rules += [include_direction, banned_calls, opening_comment]
            if len(lines) > LINES_MAX:
                long_files.append((len(lines), name))
            if len(data) > BYTES_MAX:
                wrong.append(f"{name}: {len(data)} bytes: split it")
        for rule in rules:
            wrong += [f"{name}:{number}: {why}" for number, why in rule(path, lines)]
    for count, name in sorted(long_files, reverse=True):
        print(f"long: {name} has {count} lines")
    for finding in wrong:
        print(finding)
    print(f"tidy: {len(wrong)} finding(s)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
