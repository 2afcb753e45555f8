"""Tables of segmentation: means over seeds, differences to the twin that looks once."""

import json

import pytest

from tests.run_script import run_script
from vl_absvit.demo.scene import SHAPES

SCRIPT = "scripts/tabulate_segmentation.py"


def write_result(folder, miou: float, ring: float | None = 50.0) -> None:
    """``evaluate_segmentation.py``'s file."""
    per_class = {name: {"iou": ring if name == "ring" else miou} for name in ("ground", *SHAPES)}
    folder.mkdir(parents=True)
    content = {"miou": miou, "macc": miou + 5, "aacc": 90.0, "per_class": per_class}
    (folder / "val.json").write_text(json.dumps(content))


def test_rows_are_compared_with_the_twin_seed_by_seed(tmp_path):
    for seed in range(3):
        write_result(tmp_path / f"vit-{seed}", 60.0 + seed)
        write_result(tmp_path / f"absvit-{seed}", 62.0 + seed + 0.1 * seed)
    (tmp_path / "absvit-3").mkdir()
    assert run_script(SCRIPT, tmp_path, "--rows", "absvit", "vit", "--output", tmp_path / "table") == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["rows"]["vit"]["scores"]["miou"]["mean"] == pytest.approx(61.0)
    assert table["differences"]["absvit"]["miou"]["mean"] == pytest.approx(2.1)
    assert table["rows"]["absvit"]["missing"] == [3]
    assert "| vit | 3 | 61.0 ± 1.0 | 66.0 ± 1.0 | 90.0 ± 0.0 |" in (tmp_path / "table.md").read_text()


def test_another_result_is_one_line(tmp_path, complaint):
    (tmp_path / "vit-0").mkdir()
    (tmp_path / "vit-0/val.json").write_text('{"miou": 3}')
    line = complaint(1, SCRIPT, tmp_path, "--rows", "vit", "--output", tmp_path / "table")
    assert line.startswith(f"{tmp_path / 'vit-0/val.json'}: expected a result of evaluate-segmentation")


def test_a_score_that_is_no_number_is_one_line(tmp_path, complaint):
    write_result(tmp_path / "vit-0", 60.0, ring="half")
    line = complaint(1, SCRIPT, tmp_path, "--rows", "vit", "--output", tmp_path / "table")
    assert line == f"{tmp_path / 'vit-0'}: expected a number as the score ring, got 'half'"
    assert not list(tmp_path.glob("table*"))
