"""Run folders compared."""

import json
from pathlib import Path

from vl_absvit.training.checkpoint import check_whole


def metrics(run: Path) -> list[dict]:
    """Every line of metrics.jsonl, but for what depends on the time."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "samples_per_second"} for line in lines]


def assert_same_end(run: Path, other: Path) -> None:
    """Bit by bit the same weights, optimizer state, position and best model, and the same metrics."""
    for name in ("last", "best"):
        folders = [each / "checkpoints" / name for each in (run, other)]
        check_whole(folders[0])
        # The manifest holds the SHA-256 of every other file.
        assert (folders[0] / "manifest.json").read_text() == (folders[1] / "manifest.json").read_text()
    assert metrics(run) == metrics(other)
