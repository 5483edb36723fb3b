"""dev/sanitize: chooses tests by room, builds the programs that they run and nothing else, and runs them.

Which test is whose comes from ctest itself (the CMakeLists that added it), so that a room registers nothing.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
from pathlib import Path

ROOMS = ["base", "kernels", "text", "models", "vision", "engine", "actors", "wire", "capi", "openai", "http", "cli"]
FREE_OF_CAF = {"base", "kernels", "text", "models", "vision", "engine"}  # elsewhere the label tsan says so
NEVER = {"gpu", "soak", "bench"}
# Programs that count what operator new is asked for (ThreadSanitizer's cannot be replaced), and one that has no
# second thread and takes long without one.
NOT_UNDER_TSAN = {"own_new", "one_thread"}
# Programs of other languages would have to preload the runtime; gates read files alone.
OTHERS = re.compile(r"^dev_|^wire\.conformance\.(python|go|rust)$|^capi\.abi\.(symbols|header|layout_complete|prototypes_.*)$")


class Test:
    def __init__(self, entry: dict, listing: dict, command: list[str], root: Path, build: Path) -> None:
        properties = {p["name"]: p["value"] for p in entry.get("properties", [])}
        self.name: str = entry["name"]
        self.labels = set(properties.get("LABELS", []))
        self.room = room_of(entry, listing["backtraceGraph"], root)
        self.files = {str(Path(word).relative_to(build)) for word in command if word.startswith(f"{build}/")}

    def wanted(self, kind: str, rooms: list[str]) -> bool:
        if self.room not in rooms or self.labels & NEVER or OTHERS.match(self.name):
            return False
        if kind == "tsan" and self.labels & NOT_UNDER_TSAN:
            return False
        return kind == "asan" or self.room in FREE_OF_CAF or "tsan" in self.labels


def room_of(entry: dict, graph: dict, root: Path) -> str:
    """The first folder of the CMakeLists that added the test; behind tests/, the second."""
    at = entry.get("backtrace")
    while at is not None:
        node = graph["nodes"][at]
        file = Path(graph["files"][node["file"]])
        parts = file.relative_to(root).parts if file.is_relative_to(root) else ("cmake",)
        if parts[0] != "cmake":
            room = parts[1] if parts[0] == "tests" and len(parts) > 2 else parts[0]
            return "cli" if room == "tests" else room
        at = node.get("parent")
    return ""


def commands(build: Path) -> dict[str, list[str]]:
    """What each test runs, built or not: ctest tells only of programs that exist."""
    found = {}
    for file in build.rglob("CTestTestfile.cmake"):
        for name, words in re.findall(r'^add_test\((?:\[=\[)?(.+?)(?:\]=\])? (".*")\)$', file.read_text(), re.M):
            found[name] = re.findall(r'"([^"]*)"', words)
    return found


def cpu_minutes() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) / 60


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("kind")
    parser.add_argument("jobs")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("rooms", nargs="*")
    given = parser.parse_args()
    rooms = given.rooms or ROOMS
    if unknown := set(rooms) - set(ROOMS):
        sys.exit(f"dev/sanitize: no room {', '.join(sorted(unknown))}; there are {', '.join(ROOMS)}")
    build = given.root / "build" / given.kind
    answer = subprocess.run(["ctest", "--show-only=json-v1"], cwd=build, check=True, capture_output=True, text=True)
    listing = json.loads(answer.stdout)
    runs = commands(build)
    tests = [Test(entry, listing, runs.get(entry["name"], []), given.root, build) for entry in listing["tests"]]
    chosen = [test for test in tests if test.wanted(given.kind, rooms)]
    if given.list or not chosen:
        print("\n".join(f"{given.kind} {test.room}: {test.name}" for test in chosen) or f"{given.kind}: no test there")
        return
    known = subprocess.run(["ninja", "-t", "targets", "all"], cwd=build, check=True, capture_output=True, text=True)
    targets = {line.rpartition(": ")[0] for line in known.stdout.splitlines()}
    nothing = [test.name for test in chosen if not test.files]
    if nothing:
        sys.exit(f"dev/sanitize: no program is known of {', '.join(nothing)}")
    programs = sorted(set().union(*(test.files for test in chosen)) & targets)
    built = subprocess.run(["ninja", "-j", given.jobs, *programs], cwd=build)
    building = cpu_minutes()
    if built.returncode:
        sys.exit(f"dev/sanitize: the {given.kind} build failed")
    names = "|".join(re.escape(test.name) for test in chosen)
    ran = subprocess.run(["ctest", "-j", given.jobs, "--output-on-failure", "-R", f"^({names})$"], cwd=build)
    print(f"{given.kind}: {len(chosen)} tests of {', '.join(rooms)}: CPU {building:.1f} min building, "
          f"{cpu_minutes() - building:.1f} min testing", flush=True)
    if ran.returncode:
        sys.exit(f"dev/sanitize: tests fail under {given.kind}")


main()
