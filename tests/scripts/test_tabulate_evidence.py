"""Rows of the evidence: mean and standard deviation over seeds."""

import json

import pytest

from tests.run_script import run_script


def write_summary(folder, vqa: float, *, has_prior: bool = True) -> None:
    retrieval = [{"ir_r1": 10.0, "tr_r1": 20.0}, {"ir_r1": 30.0, "tr_r1": 40.0}]
    agreement = {"bottom_up_cls": 0.25, "cross": 0.125}
    summary = {"vqa_accuracy": vqa, "retrieval": retrieval, "agreement": agreement, "bottom_up_pointing": 50.0}
    if has_prior:
        agreement |= {"prior_mask": 0.5, "top_down_cls": 0.75}
        summary |= {"prior_mask_pointing": 80.0, "top_down_pointing": 60.0}
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))


def test_each_row_is_the_mean_over_its_seeds_with_the_sample_deviation(tmp_path):
    for seed, vqa in enumerate((90.0, 92.0, 94.0)):
        write_summary(tmp_path / f"absvit-{seed}", vqa)
        write_summary(tmp_path / f"vit-{seed}", 80.0, has_prior=False)
    output = tmp_path / "table"
    assert run_script("scripts/tabulate_evidence.py", tmp_path, "--rows", "vit", "absvit", "--output", output) == 0
    table = json.loads(output.with_suffix(".json").read_text())
    assert table["seeds"] == [0, 1, 2]
    assert table["rows"]["absvit"]["vqa"] == {"mean": 92.0, "standard_deviation": 2.0, "values": [90.0, 92.0, 94.0]}
    assert table["rows"]["absvit"]["agreement_cls"]["mean"] == 0.75, "of the second look"
    assert table["rows"]["vit"]["agreement_cls"]["mean"] == 0.25, "of the only look"
    assert table["rows"]["vit"]["pointing_tokens"]["mean"] == 50.0
    assert "pointing_mask" not in table["rows"]["vit"]
    vit, absvit = output.with_suffix(".md").read_text().splitlines()[2:]
    assert absvit.startswith("| absvit | 92.0 ± 2.0 | 10.0 ± 0.0 |")
    assert vit.startswith("| vit | 80.0 ± 0.0 |") and vit.count("| - |") == 2


def test_one_seed_has_no_deviation(tmp_path):
    write_summary(tmp_path / "absvit-4", 91.0)
    run_script("scripts/tabulate_evidence.py", tmp_path, "--rows", "absvit", "--output", tmp_path / "table")
    assert (tmp_path / "table.md").read_text().splitlines()[2].startswith("| absvit | 91.0 | 10.0 |")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["absvit", "mask_att"], "row mask_att has no run"),
        (["absvit", "vit"], "row vit has seeds [0], others [0, 1]"),
        (["broken"], "expected a summary of summarise_demo.py with agreement and two retrieval results"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, complaint, rows, expected):
    for seed in (0, 1):
        write_summary(tmp_path / f"absvit-{seed}", 90.0)
    write_summary(tmp_path / "vit-0", 90.0)
    (tmp_path / "broken-0").mkdir()
    (tmp_path / "broken-0" / "summary.json").write_text('{"vqa_accuracy": 90.0, "retrieval": []}')
    arguments = (tmp_path, "--rows", *rows, "--output", tmp_path / "table")
    assert expected in complaint(1, "scripts/tabulate_evidence.py", *arguments)
