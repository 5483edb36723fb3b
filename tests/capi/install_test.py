#!/usr/bin/env python3
"""Installs a build into an empty prefix and lives on that alone: the examples are built against it
by pkg-config and by find_package, and run over `echo:`.

    install_test.py BUILD_DIR SOURCE_DIR
"""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from installed import clean_environment, install, run

NEEDED = ["include/troupe.h", "include/troupe.hpp", "lib/libtroupe.so", "lib/libtroupe.so.0.1",
          "lib/pkgconfig/troupe.pc", "lib/cmake/troupe/troupe-config.cmake",
          "lib/cmake/troupe/troupe-config-version.cmake"]


def by_pkg_config(prefix, examples, folder, env):
    def flags(*options):
        return run("pkg-config", *options, "troupe", env=env, capture_output=True).stdout.split()

    for language, compiler, standard in (("c", "cc", "-std=c99"), ("cpp", "c++", "-std=c++17")):
        target = os.path.join(folder, language)
        os.makedirs(target)
        for source in sorted(os.listdir(os.path.join(examples, language))):
            job, suffix = os.path.splitext(source)
            if suffix not in (".c", ".cpp"):
                continue
            run(compiler, standard, "-Wall", "-Wextra", "-Werror", *flags("--cflags"),
                os.path.join(examples, language, source), "-o", os.path.join(target, job),
                *flags("--libs"), f"-Wl,-rpath,{prefix}/lib", env=env)
        yield target


def by_find_package(prefix, examples, folder, env):
    copy = os.path.join(folder, "source")  # so that nothing of the source tree is beside it
    shutil.copytree(examples, copy)
    build = os.path.join(folder, "build")
    run("cmake", "-G", "Ninja", "-S", copy, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}", env=env,
        stdout=subprocess.DEVNULL)
    run("cmake", "--build", build, "-j2", env=env, stdout=subprocess.DEVNULL)
    for language in ("c", "cpp"):
        yield os.path.join(build, "examples", language)


def command_answers(command, source, env):
    """It finds its libraries, its engine and a model from where it was put."""
    run(command, "--version", env=env)
    said = run(command, "generate", "echo:", "-p", "installed", env=env, capture_output=True).stdout
    model = os.path.join(source, "examples", "model", "abacus")
    summed = run(command, "generate", model, "--chat", "-p", "What is 12 + 30?", "--temperature", "0", env=env,
                 capture_output=True).stdout
    if said.strip() == "installed" and "42" in summed:
        return True
    print(f"the installed command says {said!r}, and of a model {summed!r}")
    return False


def main():
    build, source = sys.argv[1:]
    examples = os.path.join(source, "examples")
    with tempfile.TemporaryDirectory() as folder:
        prefix, beside = install(build, folder)
        if beside:
            print("installed outside the prefix: " + ", ".join(beside))
            return 1
        missing = [path for path in NEEDED if not os.path.exists(os.path.join(prefix, path))]
        if missing:
            print("not installed: " + ", ".join(missing))
            return 1
        env = clean_environment(prefix)
        command = os.path.join(prefix, "bin", "troupe")
        if os.path.exists(command) and not command_answers(command, source, env):
            return 1
        folders = list(by_pkg_config(prefix, examples, os.path.join(folder, "pc"), env))
        folders += by_find_package(prefix, examples, os.path.join(folder, "cmake"), env)
        for built in folders:
            run(sys.executable, os.path.join(examples, "run.py"), built, env=env)
    return 0


if __name__ == "__main__":
    sys.exit(main())
