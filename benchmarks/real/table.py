"""What the parts of the check found, beside the figures of an earlier trial on the same encoders."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.tables import table_of
from vl_absvit.data.json_files import read_json

NOT_RUN = "not run"
RECALLS = [f"{way}_r{k}" for way in ("ir", "tr") for k in (1, 5, 10)]


class Row(NamedTuple):
    """A line of the table; figures as text."""

    check: str
    found: str
    trial: str = ""


def show(output: Path) -> None:
    """Print the table of all that lies in a folder, and write it as Markdown."""
    found = {file.stem: read_json(file, dict) for file in sorted(output.glob("*.json"))}
    rows = list(rows_of(found))
    printed = table_of("check", "here", "trial")
    for row in rows:
        printed.add_row(*row)
    Console().print(printed)
    lines = ["| check | here | trial |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in rows)]
    (output / "table.md").write_text("\n".join(lines) + "\n")


def rows_of(found: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    """All rows.

    Args:
        found: the parts' results by their names; those of parts that did not run are not there.
    """
    for name in ("onnxruntime", "timm", "transformers"):
        value = found.get("encoders", {}).get("differences", {}).get(name)
        yield Row(f"encoder beside {name}, greatest difference", NOT_RUN if value is None else f"{value:.1g}")
    photographs = found.get("photographs", {})
    yield Row("photographs: prior mask, tokens with their mean", _halves(photographs, "with_the_mean"))
    for kind, trial in (("prototypes", "75.0 / 59.7"), ("discriminants", "")):
        yield Row(f"photographs: prior mask, {kind}", _halves(photographs, kind, "prior_mask"), trial)
    yield Row(
        "photographs: prior mask, random weights", _halves(photographs, "random_weights", "prototypes"), "47.7 / 24"
    )
    yield Row("photographs: first look", _halves(photographs, "prototypes", "bottom_up"), "50.0 / 0")
    for kind, trial in (("prototypes", "70.0 / 50.0"), ("discriminants", "")):
        yield Row(f"photographs: second look, {kind}", _halves(photographs, kind, "second_look"), trial)
    stamps = found.get("stamps", {})
    for kind, trial in (("prototypes", "78.5 / 60.0"), ("discriminants", "")):
        yield Row(f"stamps: prior mask, {kind}", _halves(stamps, "tokens", kind), trial)
    for kind, trial in (("prototypes", "64.8 / 57.5"), ("discriminants", "")):
        yield Row(f"stamps: colours alone, {kind}", _halves(stamps, "colours", kind), trial)
    ridge = found.get("captions", {}).get("ridge", {})
    for strength, recalls in ridge.items():
        yield Row(f"captions: ridge regression, {strength}", _recalls(recalls))
    yield Row("captions: prior projection, dual encoder", _recalls(found.get("retrieval", {})))
    maps = found.get("fixations", {}).get("maps", {})
    trials = {"centre": "0.79 / 0.725", "people on another photograph": "0.26 / 0.635", "img_focus": "1.58 / 0.841"}
    for name, told in maps.items():
        yield Row(
            f"fixations: {name.replace('_', ' ')}", f"{told['nss']:.2f} / {told['auc']:.3f}", trials.get(name, "")
        )


def _halves(found: Mapping[str, Any], *path: str) -> str:
    """Percent in the asked half, and for both things."""
    for name in path:
        found = found.get(name, {})
    return f"{found['asked_half']:.1f} / {found['both_halves']:.1f}" if found else NOT_RUN


def _recalls(found: Mapping[str, Any]) -> str:
    """Recalls of images and of texts."""
    return " ".join(f"{found[name]:.1f}" for name in RECALLS) if found else NOT_RUN
