"""The worked examples of CONTRIBUTING.md, put in place as if their files were there."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from tests.run_script import ROOT
from vl_absvit.config import shipped
from vl_absvit.prepare import sets
from vl_absvit.prepare.caption_sets import CAPTION_SETS
from vl_absvit.prepare.caption_source import CaptionSet
from vl_absvit.prepare.vqa_sets import DATA_SETS
from vl_absvit.prepare.vqa_source import VQASet

PACKAGES = ("vl_absvit.models.trunks", "vl_absvit.tasks", "vl_absvit.prepare.sets")
"""That files are added to."""


def blocks(section: str = "") -> dict[str, str]:
    """The code of a section of the page, or of all, by the file that its first line names."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    if section:
        text = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def put_in_place(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Write the files that are added into a folder, and have the package and its tables hold them until undone."""
    code = blocks()
    for file, text in code.items():
        if not (ROOT / file).exists():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
    for name in PACKAGES:
        package = import_module(name)
        patch.setattr(package, "__path__", [*package.__path__, str(folder / name.replace(".", "/"))])
    patch.setattr(shipped, "configs_folder", lambda: folder / "configs")
    for file, text in code.items():
        if (ROOT / file).exists():
            module = import_module(file.removesuffix(".py").replace("/", "."))
            name = re.search(r"^[A-Z]+\b", text, re.MULTILINE)[0]
            table = getattr(module, name)
            namespace = vars(module) | {name: dict(table)}
            exec(compile(text, file, "exec"), namespace)
            _add(table, namespace[name], patch)
    _add(DATA_SETS, sets.known(VQASet), patch)
    _add(CAPTION_SETS, sets.known(CaptionSet), patch)


def _add(table: dict, larger: dict, patch: pytest.MonkeyPatch) -> None:
    for name in larger.keys() - table.keys():
        patch.setitem(table, name, larger[name])
