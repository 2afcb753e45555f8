"""Tables of the kinds of attention: means over severities and corruptions, and differences to softmax."""

import json

import pytest

from tests.run_script import run_script
from vl_absvit.evaluation.classification_metrics import ALEXNET_ERRORS

SCRIPT = "scripts/tabulate_vars.py"


def write_result(folder, error: float, noise: float = 0.0) -> None:
    """``evaluate_vision.py``'s file: errors rise by ten with the severity, and by ``noise`` for one corruption."""
    corruptions = {}
    for name in ALEXNET_ERRORS:
        more = noise if name == "gaussian_noise" else 0.0
        by_severity = {str(severity): error + 10 * (severity - 3) + more for severity in range(1, 6)}
        corruptions[name] = {"error": by_severity, "mean_error": error + more, "ce": None}
    content = {"top1": 80.0, "mean_error": error + noise / 15, "corruptions": corruptions}
    folder.mkdir(parents=True)
    (folder / "corrupted.json").write_text(json.dumps(content))


def test_kinds_of_attention_are_compared_by_accuracy_under_corruptions(tmp_path):
    for seed in range(3):
        write_result(tmp_path / f"softmax-{seed}", 40.0 + seed)
        write_result(tmp_path / f"vars_d-{seed}", 36.0 + seed, noise=15.0)
    (tmp_path / "vars_d-3").mkdir()
    assert run_script(SCRIPT, tmp_path, "--rows", "softmax", "vars_d", "--output", tmp_path / "table") == 0
    table = json.loads((tmp_path / "table.json").read_text())
    of = {name: row["scores"] for name, row in table["rows"].items()}
    assert of["softmax"]["clean"]["mean"] == 80.0 and of["softmax"]["corrupted"]["mean"] == pytest.approx(59.0)
    assert of["softmax"]["kept"]["mean"] == pytest.approx(100 * 59 / 80)
    assert [of["softmax"][f"severity_{n}"]["mean"] for n in (1, 5)] == pytest.approx([79.0, 39.0])
    assert of["vars_d"]["gaussian_noise"]["mean"] == pytest.approx(100 - 37 - 15)
    assert of["vars_d"]["fog"]["mean"] == pytest.approx(63.0)
    difference = table["differences"]["vars_d"]["corrupted"]
    assert difference["mean"] == pytest.approx(4 - 1) and difference["excludes_zero"]
    assert table["rows"]["vars_d"]["missing"] == [3]
    text = (tmp_path / "table.md").read_text()
    assert text.startswith("Not finished: vars_d-3.") and "| softmax | 3 | 80.0 ± 0.0 | 59.0 ± 1.0 |" in text
    assert "| row | seeds | gaussian noise | shot noise |" in text


def test_a_result_without_corruptions_and_a_row_that_is_not_there_are_one_line(tmp_path, complaint):
    (tmp_path / "softmax-0").mkdir()
    (tmp_path / "softmax-0/corrupted.json").write_text('{"top1": 80.0}')
    options = ("--rows", "softmax", "--output", tmp_path / "table")
    line = complaint(1, SCRIPT, tmp_path, *options)
    assert line.startswith(f"{tmp_path / 'softmax-0/corrupted.json'}: expected a result of evaluate-vision with --corr")
    assert "--against: expected one of --rows, got 'vit'" in complaint(
        2, SCRIPT, tmp_path, *options, "--against", "vit"
    )
