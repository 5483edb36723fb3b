"""Compiles troupe._native for every CPython from 3.10 on, and tags the wheel so; the rest is in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup

HEADERS = ["native", "../../capi"]  # troupe.h lies in the one or, in the project's own tree, in the other

setup(
    ext_modules=[Extension(
        "troupe._native", sorted(map(str, Path("native").glob("*.c"))), include_dirs=HEADERS,
        depends=[str(path) for folder in HEADERS for path in Path(folder).glob("*.h")],
        define_macros=[("_GNU_SOURCE", None)], py_limited_api=True,
        extra_compile_args=["-std=c11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-fvisibility=hidden"])],
    options={"bdist_wheel": {"py_limited_api": "cp310"}})
