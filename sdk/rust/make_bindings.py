"""Writes troupe-sys/src/bindings.rs from troupe.h.

    python make_bindings.py            writes it
    python make_bindings.py --check    exits 1 when the committed one differs

The header is plain C99 with fixed-width types, so a C parser and a table of types are all it takes.
"""

import re
import sys
from pathlib import Path

from pycparser import c_ast, c_parser

HERE = Path(__file__).parent
HEADER = HERE.parent.parent / "capi" / "troupe.h"
BINDINGS = HERE / "troupe-sys" / "src" / "bindings.rs"

TYPES = {"int": "c_int", "char": "c_char", "void": "c_void", "float": "f32", "double": "f64",
         "size_t": "usize", "int8_t": "i8", "uint8_t": "u8", "int32_t": "i32", "uint32_t": "u32",
         "int64_t": "i64", "uint64_t": "u64"}
KEYWORDS = {"type": "type_", "fn": "fn_"}
PRELUDE = "".join(f"typedef int {name};" for name in TYPES if name.endswith("_t"))
HEAD = """\
// Generated from troupe.h by make_bindings.py: do not edit.

use core::ffi::{c_char, c_int, c_void};

"""


def preprocessed(header: str) -> str:
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    text = re.sub(r"\\\n", " ", text)
    text = re.sub(r"^[ \t]*#.*$", "", text, flags=re.M)
    text = re.sub(r'extern "C" \{', "", text)
    text = re.sub(r"\bTROUPE_(API|MUST_USE)\b", "", text)
    return PRELUDE + text.rpartition("}")[0]


def rust_type(node: c_ast.Node) -> str:
    if isinstance(node, c_ast.PtrDecl):
        if isinstance(node.type, c_ast.FuncDecl):
            return f"Option<{function_type(node.type)}>"
        target = node.type
        const = "const" in getattr(target, "quals", [])
        return f"*{'const' if const else 'mut'} {rust_type(target)}"
    if isinstance(node, c_ast.ArrayDecl):
        return f"[{rust_type(node.type)}; {node.dim.value}]"
    if isinstance(node, c_ast.TypeDecl):
        if isinstance(node.type, c_ast.Struct):
            return node.type.name
        name = " ".join(node.type.names)
        return TYPES.get(name, name)
    raise NotImplementedError(type(node).__name__)


def parameters(node: c_ast.FuncDecl) -> list[tuple[str, str]]:
    given = node.args.params if node.args else []
    return [(KEYWORDS.get(p.name, p.name) or f"a{i}", rust_type(p.type)) for i, p in enumerate(given)
            if not (isinstance(p.type, c_ast.TypeDecl) and getattr(p.type.type, "names", None) == ["void"])]


def returns(node: c_ast.FuncDecl) -> str:
    result = rust_type(node.type)
    return "" if result == "c_void" else f" -> {result}"


def function_type(node: c_ast.FuncDecl) -> str:
    arguments = ", ".join(f"{name}: {kind}" for name, kind in parameters(node))
    return f'unsafe extern "C" fn({arguments}){returns(node)}'


def opaque(name: str) -> str:
    return f"#[repr(C)]\npub struct {name} {{\n    _private: [u8; 0],\n}}\n\n"


def structure(node: c_ast.Struct) -> str:
    fields = "".join(f"    pub {KEYWORDS.get(f.name, f.name)}: {rust_type(f.type)},\n" for f in node.decls)
    return f"#[repr(C)]\n#[derive(Clone, Copy)]\npub struct {node.name} {{\n{fields}}}\n\n"


def constant_value(node: c_ast.Node) -> str:
    if isinstance(node, c_ast.BinaryOp):
        return f"{constant_value(node.left)} {node.op} {constant_value(node.right)}"
    return node.value


def generate(header: str) -> str:
    out, functions, sizes = [HEAD], [], []
    out += [f"pub const {name}: usize = {value};\n\n"
            for name, value in re.findall(r"^#define (\w+_SIZE) (\d+)$", header, flags=re.M)]
    for node in c_parser.CParser().parse(preprocessed(header)).ext:
        if isinstance(node, c_ast.Typedef) and node.name.startswith("troupe_"):
            inner = node.type
            if isinstance(inner, c_ast.TypeDecl) and isinstance(inner.type, c_ast.Struct):
                struct = inner.type
                out.append(structure(struct) if struct.decls else opaque(struct.name))
                if struct.decls:
                    sizes.append(struct.name)
            elif isinstance(inner, c_ast.PtrDecl):
                out.append(f"pub type {node.name} = {rust_type(inner)};\n\n")
        elif isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.Enum):
            out += [f"pub const {e.name}: i32 = {constant_value(e.value)};\n" for e in node.type.values.enumerators]
            out.append("\n")
        elif isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.FuncDecl):
            arguments = ", ".join(f"{name}: {kind}" for name, kind in parameters(node.type))
            functions.append(f"    pub fn {node.name}({arguments}){returns(node.type)};\n")
    out.append('extern "C" {\n' + "".join(functions) + "}\n\n")
    names = "".join(f'    ("{name}", core::mem::size_of::<{name}>()),\n' for name in sizes)
    out.append("/// Every struct with its size, to compare with `troupe_sizeof`.\n"
               f"pub const STRUCT_SIZES: &[(&str, usize)] = &[\n{names}];\n")
    return "".join(out)


if __name__ == "__main__":
    fresh = generate(HEADER.read_text(encoding="utf-8"))
    if "--check" in sys.argv:
        if BINDINGS.read_text(encoding="utf-8") != fresh:
            sys.exit("bindings.rs is older than capi/troupe.h: run make_bindings.py")
    else:
        BINDINGS.write_text(fresh, encoding="utf-8")
