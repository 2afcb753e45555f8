"""Who may import whom: models know no data, metrics no models, and only one file talks to torch.distributed."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vl_absvit"
MAY_IMPORT = {  # parts of the package; ``errors`` is open to all
    "errors": set(),
    "variants": set(),
    "token_grid": set(),
    "config": {"variants"},
    "distributed": set(),
    "int8": set(),
    "precision": {"config", "distributed", "int8"},
    "losses": {"precision"},
    "main_process": {"distributed"},
    "hub": set(),
    "cli": {"config"},
    "models": {"variants", "hub", "precision", "token_grid"},
    "data": {"config"},
    "prepare": {"cli", "data"},  # long stages show their progress
    "demo": {"data"},
    "evaluation": {"data", "distributed"},
    "tasks": {
        "variants",
        "token_grid",
        "config",
        "hub",
        "precision",
        "distributed",
        "main_process",
        "losses",
        "models",
        "data",
        "evaluation",
    },
    "looking": {
        "variants",
        "token_grid",
        "config",
        "precision",
        "distributed",
        "models",
        "data",
        "evaluation",
        "tasks",
    },
    "search": {"config", "precision", "distributed", "main_process", "models", "data", "tasks", "looking"},
    "training": {"config", "hub", "precision", "distributed", "main_process", "data", "tasks"},
    "planning": {"config", "precision", "distributed", "models", "data", "tasks", "training"},
}
MAY_IMPORT["commands"] = {*MAY_IMPORT}
MAY_IMPORT["__main__"] = {"config", "cli"}  # a program is imported when it is asked for
EXCEPTIONS = {
    ("models/architecture.py", "config"),  # these two turn configs into modules
    ("models/build.py", "config"),
    # Long stages show their progress.
    ("tasks/keeping.py", "cli"),
    ("tasks/retrieval.py", "cli"),
    ("tasks/registry.py", "cli"),  # reads the task that a config names
    ("tasks/retrieval_protocol.py", "prepare"),  # asks which data sets share images
    ("training/loop.py", "cli"),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported_modules(file: Path) -> set[str]:
    """Dotted names of everything that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide who imports whom"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_imports_only_what_its_part_may(file):
    part, name = part_of(file), file.relative_to(PACKAGE).as_posix()
    used = {module.split(".")[1] for module in imported_modules(file) if module.startswith("vl_absvit.")}
    if part == "__init__":
        assert not used
        return
    allowed = MAY_IMPORT[part] | {part, "errors"} | {other for user, other in EXCEPTIONS if user == name}
    assert used <= allowed, f"{name} imports {sorted(used - allowed)}"


def test_every_exception_is_used():
    assert {
        (user, other)
        for user, other in EXCEPTIONS
        if any(module.startswith(f"vl_absvit.{other}") for module in imported_modules(PACKAGE / user))
    } == EXCEPTIONS


def test_only_one_file_talks_to_torch_distributed():
    users = [file.name for file in FILES if any(m.startswith("torch.distributed") for m in imported_modules(file))]
    assert users == ["distributed.py"]


def test_only_tasks_looking_training_and_commands_know_accelerate():
    users = {part_of(file) for file in FILES if any(m.startswith("accelerate") for m in imported_modules(file))}
    assert users <= {"tasks", "looking", "training", "commands"}


@pytest.mark.parametrize("name", ["distributed.py", "losses.py"])
def test_collectives_and_losses_know_nothing_but_torch(name):
    modules = imported_modules(PACKAGE / name) - {"vl_absvit.precision.always_fp32", "vl_absvit.precision"}
    assert {module.split(".")[0] for module in modules} <= {"torch", "math", "typing", "collections", "datetime"}
