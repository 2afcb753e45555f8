"""Results with names are still tuples: no field hides what a tuple can do."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "vl_absvit"


def test_no_field_hides_a_method_of_tuples():
    hiding = [
        f"{file.name}: {found.name}.{part.target.id}"
        for file in PACKAGE.rglob("*.py")
        for found in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(found, ast.ClassDef)
        and any(isinstance(b, ast.Name) and b.id == "NamedTuple" for b in found.bases)
        for part in found.body
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and hasattr(tuple, part.target.id)
    ]
    assert hiding == []
