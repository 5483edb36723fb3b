"""Writes src/troupe/_binding.py, cffi's out-of-line ABI-mode module, from troupe.h.

    python make_binding.py            writes it
    python make_binding.py --check    exits 1 when the committed one differs

The header is plain C99: without comments, attributes and preprocessor lines other than whole numbers it is
what cffi reads.
"""

import contextlib
import re
import sys
import tempfile
from pathlib import Path

import cffi

HERE = Path(__file__).parent
HEADER = HERE.parent.parent / "capi" / "troupe.h"
BINDING = HERE / "src" / "troupe" / "_binding.py"


def declarations(header: str) -> str:
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    text = re.sub(r"\\\n", " ", text)
    text = re.sub(r"^[ \t]*#(?!define \w+ \d+$).*$", "", text, flags=re.M)
    text = re.sub(r'extern "C" \{', "", text)
    text = re.sub(r"\bTROUPE_(API|MUST_USE)\b", "", text)
    # The closing brace of extern "C" is the last one of the file.
    head, _, _ = text.rpartition("}")
    return head


def generate() -> str:
    ffi = cffi.FFI()
    ffi.cdef(declarations(HEADER.read_text(encoding="utf-8")))
    ffi.set_source("troupe._binding", None)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "_binding.py")
        with contextlib.redirect_stdout(None):
            ffi.emit_python_code(str(target))
        return target.read_text(encoding="utf-8")


if __name__ == "__main__":
    fresh = generate()
    if "--check" in sys.argv:
        if BINDING.read_text(encoding="utf-8") != fresh:
            sys.exit("src/troupe/_binding.py is older than capi/troupe.h: run make_binding.py")
    else:
        BINDING.write_text(fresh, encoding="utf-8")
