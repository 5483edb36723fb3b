"""dev/notices: one file of licence texts for each crate and package that is inside our libraries.

A dependency without a licence text ends the run with an error, so nothing is shipped unnamed.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

# Compiled into our libraries from headers or archives; shared libraries are found by ldd.
LINKED_IN = ["nlohmann-json3-dev", "libspdlog-dev", "libfmt-dev", "libcli11-dev", "cppzmq-dev",
             "libmsgpack-cxx-dev", "libhwy-dev"]
# Every Linux has them, or the machine must bring its own: never shipped.
SYSTEM = re.compile(r"ld-linux|linux-vdso|lib(c|m|dl|rt|pthread|resolv|util|stdc\+\+|gcc_s)\.so"
                    r"|libcuda\.|libcublas|libnccl|libtroupe")
LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice|unlicense)", re.IGNORECASE)


def crate_texts(root: Path) -> dict[str, str]:
    """Licence texts of the crates in the text room's static library, by name and version."""
    manifest = root / "text" / "rust" / "Cargo.toml"
    answer = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform",
         "x86_64-unknown-linux-gnu", "--manifest-path", str(manifest)],
        check=True, capture_output=True, text=True)
    texts = {}
    for package in json.loads(answer.stdout)["packages"]:
        folder = Path(package["manifest_path"]).parent
        if folder == manifest.parent:
            continue
        parts = [f"{package['name']} {package['version']}, {package['license']}\n"
                 f"{package['repository'] or ''}\n"]
        files = sorted(f for f in folder.iterdir() if f.is_file() and LICENCE_FILE.match(f.name))
        if not files:
            sys.exit(f"dev/notices: crate {package['name']} carries no licence text")
        parts += [f.read_text(errors="replace") for f in files]
        texts[f"crate-{package['name']}-{package['version']}"] = "\n".join(parts)
    return texts


def owner_of(library: str) -> str:
    real = Path(library).resolve()
    for path in (real, Path(library)):
        found = subprocess.run(["dpkg-query", "-S", str(path)], capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.split(":")[0]
    sys.exit(f"dev/notices: no package owns {library}: add its licence by hand")


def shared_packages(programs: list[str]) -> set[str]:
    """Packages of the shared libraries that the programs need, the whole closure."""
    packages = set()
    for program in programs:
        listing = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
        for name, path in re.findall(r"^\s*(\S+) => (/\S+)", listing, re.MULTILINE):
            if not SYSTEM.match(name):
                packages.add(owner_of(path))
    return packages


def package_text(name: str) -> str:
    copyright_file = Path("/usr/share/doc") / name / "copyright"
    if not copyright_file.is_file():
        sys.exit(f"dev/notices: package {name} has no {copyright_file}")
    return copyright_file.read_text(errors="replace")


def main() -> None:
    root, folder, programs = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    texts = crate_texts(root)
    for name in sorted({*LINKED_IN, *shared_packages(programs)}):
        texts[f"package-{name}"] = package_text(name)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    print(f"{len(texts)} licences in {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
