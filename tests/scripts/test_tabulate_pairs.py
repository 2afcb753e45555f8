"""Tables of pretraining on pairs: means over seeds, differences to the row without."""

import json

import pytest

from tests.run_script import run_script
from tests.scripts.test_tabulate_evidence import write_run

SCRIPT = "scripts/tabulate_pairs.py"


def write_result(folder, vqa: float, nlvr2: float) -> None:
    """What ``pairs_evidence.sh`` leaves of a row."""
    write_run(folder, vqa, steering={"asked_half": 90.0, "both_halves": 80.0})
    for kind, scores in (("nlvr2", {"accuracy": nlvr2, "consistency": 10.0}), ("snli_ve", {"accuracy": 70.0})):
        content = scores | {"others": {"without images": {"accuracy": 50.0}}}
        (folder / f"{kind}.about.json").write_text(json.dumps(content))
    for look, recall in (("first", 40.0), ("second", 45.0)):
        (folder / f"finetuned_{look}.json").write_text(json.dumps({"ir_r1": recall, "tr_r1": recall + 1}))


def test_the_row_with_pretraining_is_compared_with_that_without_seed_by_seed(tmp_path):
    for seed in range(3):
        write_result(tmp_path / f"without-{seed}", 60.0 + seed, 50.0)
        write_result(tmp_path / f"with-{seed}", 63.0 + seed + 0.1 * seed, 60.0)
    (tmp_path / "with-3").mkdir()
    assert run_script(SCRIPT, tmp_path, "--rows", "without", "with", "--output", tmp_path / "table") == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["differences"]["with"]["vqa"]["mean"] == pytest.approx(3.1)
    assert table["differences"]["with"]["nlvr2"]["mean"] == 10.0 and table["rows"]["with"]["missing"] == [3]
    text = (tmp_path / "table.md").read_text()
    assert "| with | 3 | 64.1 ± 1.1 | 60.0 ± 0.0 | 10.0 ± 0.0 | 50.0 ± 0.0 | 70.0 ± 0.0 | 50.0 ± 0.0 |" in text
    assert "| without | 3 | 40.0 ± 0.0 | 41.0 ± 0.0 | 45.0 ± 0.0 | 46.0 ± 0.0 |" in text


@pytest.mark.parametrize("file", ["summary.json", "nlvr2.about.json", "snli_ve.about.json", "finetuned_first.json"])
def test_another_result_is_one_line(tmp_path, complaint, file):
    write_result(tmp_path / "without-0", 60.0, 50.0)
    (tmp_path / f"without-0/{file}").write_text('{"vqa_accuracy": 3}')
    line = complaint(1, SCRIPT, tmp_path, "--rows", "without", "--output", tmp_path / "table")
    assert line.startswith(f"{tmp_path / 'without-0' / file}: expected a ")
