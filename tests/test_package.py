"""The package as others install it: version, licence, types, and what it needs."""

import ast
import re
import tomllib
from pathlib import Path

import yaml

import vl_absvit

ROOT = Path(__file__).parents[1]
OPTIONAL = {"deepspeed", "evaluate", "faiss", "gradio", "imagecorruptions", "wandb"}
IS_OPTIONAL_ITSELF = "evaluation/vqa_accuracy_metric/vqa_accuracy_metric.py"  # read by evaluate.load alone


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert re.fullmatch(r"\d+\.\d+\.\d+", vl_absvit.__version__)
    assert str(citation["version"]) == vl_absvit.__version__
    assert f"## {vl_absvit.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_the_licence_and_the_types_go_along():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["license"] == "Apache-2.0" and project["project"]["license-files"] == ["LICENSE"]
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    assert project["tool"]["setuptools"]["package-data"]["vl_absvit"] == ["py.typed"]
    assert (ROOT / "vl_absvit/py.typed").is_file()


def test_nothing_needs_an_extra_until_it_is_asked_for():
    needed = {}
    for file in (ROOT / "vl_absvit").rglob("*.py"):
        name = str(file.relative_to(ROOT / "vl_absvit"))
        found = set()
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.split(".")[0])
        if found & OPTIONAL:
            needed[name] = found & OPTIONAL
    assert needed == {IS_OPTIONAL_ITSELF: {"evaluate"}}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras.keys() >= OPTIONAL - {"gradio"} | {"app"}
