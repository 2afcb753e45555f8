"""The tables of robustness: what corruptions, attacks and unseen styles leave, read from the programs' own files."""

import json

import pytest

from tests.run_script import run_script
from vl_absvit.demo.styles import STYLES

SCRIPT = "scripts/tabulate_robustness.py"


def write_run(folder, top1: float, *, transfers: bool = True) -> None:
    folder.mkdir(parents=True)
    corrupted = {"top1": top1, "mean_error": 100 - top1 / 2}
    rows = [(eps, source) for source in (None, "other") if source is None or transfers for eps in (1, 4, 16, 64)]
    attacks = [
        {"attack": {"eps": eps / 255}, "source": source, "top1": top1 / eps + (1 if source else 0)}
        for eps, source in rows
    ]
    maps = {name: {"iou": {"mean": iou}} for name, iou in (("centre", 20.0), ("everything", 10.0))}
    last = "bottom_up"
    if folder.name.startswith("absvit"):
        last = "top_down"
        maps |= {"bottom_up": {"iou": {"mean": 30.0}}, "prior_mask": {"iou": {"mean": 50.0}}}
    maps[last] = {
        name: {"mean": mean} for name, mean in (("iou", 40.0), ("false_positive", 5.0), ("false_negative", 6.0))
    }
    masks = {"map": "prior_mask", "iou": 50.0, "rows": maps}
    curves = {"deletion": {"mean": 0.5}, "insertion": {"mean": 0.75}}
    curves["randomised"] = {"head": {"mean": 0.9}, "patches": {"mean": 0.25}}
    worth = {"map": "prior_mask", "deletion": 0.1, "parts": ["head", "patches"], "rows": {last: curves}}
    attacked = corrupted | {"attacks": attacks}
    eyes = {last: {"nss": {"mean": 1.5}, "auc_judd": {"mean": 0.875}}, "centre": {"nss": {"mean": 1.25}}}
    fixations = {"map": "prior_mask", "nss": 9.0, "rows": eyes}
    results = {"corrupted": corrupted, "attacked": attacked, "masks": masks, "worth": worth, "fixations": fixations}
    for name, content in results.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    for place, style in enumerate(STYLES):
        (folder / "domains" / style).mkdir(parents=True)
        (folder / "domains" / style / "test.json").write_text(json.dumps({"top1": top1 - 10 * place}))


def tabulate(root, *more):
    assert run_script(SCRIPT, root, "--rows", "vit", "absvit", "--output", root / "table", *more) == 0
    return json.loads((root / "table.json").read_text()), (root / "table.md").read_text()


def test_all_that_was_asked_is_in_the_tables(tmp_path):
    for seed in range(3):
        write_run(tmp_path / f"vit-{seed}", 60.0 + seed)
        write_run(tmp_path / f"absvit-{seed}", 64.0 + seed)
    (tmp_path / "vit-3").mkdir()
    table, text = tabulate(tmp_path)
    scores = {name: each["mean"] for name, each in table["rows"]["vit"]["scores"].items()}
    assert (scores["clean"], scores["corrupted"], scores["kept"]) == (61.0, 30.5, 50.0)
    assert (scores["own_1"], scores["own_4"]) == (61.0, 15.25) and scores["other_4"] == 16.25
    assert scores["styles"] == 61.0 - 15 and scores[list(STYLES)[1]] == 51.0
    assert (scores["iou"], scores["centre"], scores["everything"]) == (40.0, 20.0, 10.0)
    assert (scores["nss"], scores["auc_judd"], scores["centre_nss"]) == (1.5, 0.875, 1.25)
    assert (scores["deletion"], scores["insertion"], scores["survives"]) == (0.5, 0.75, 0.25)
    of_two_looks = table["rows"]["absvit"]["scores"]
    assert (of_two_looks["iou"]["mean"], of_two_looks["prior_mask"]["mean"]) == (40.0, 50.0)
    assert "prior_mask" not in scores
    assert (of_two_looks["nss"]["mean"], of_two_looks["deletion"]["mean"]) == (1.5, 0.5)
    assert table["differences"]["absvit"]["styles"]["mean"] == 4.0 and table["against"] == "vit"
    assert text.startswith("Not finished: vit-3.") and text.count("minus vit seed by seed") == 5


def test_a_single_seed_has_no_attack_by_another(tmp_path):
    for name in ("vit", "absvit"):
        write_run(tmp_path / f"{name}-0", 60.0, transfers=False)
    table, _ = tabulate(tmp_path)
    assert "other_1" not in table["rows"]["vit"]["scores"] and "own_1" in table["rows"]["vit"]["scores"]


@pytest.mark.parametrize("damaged", ["attacked.json", "masks.json", "worth.json", "fixations.json"])
def test_a_file_of_another_form_is_one_line(tmp_path, complaint, damaged):
    write_run(tmp_path / "vit-0", 60.0)
    (tmp_path / "vit-0" / damaged).write_text('{"attacks": [{"attack": {"eps": 1}}]}')
    words = (tmp_path, "--rows", "vit", "--output", tmp_path / "table")
    line = complaint(1, SCRIPT, *words)
    assert line.startswith(f"{tmp_path / 'vit-0'}: expected results of evaluate-vision, compare-masks, compare-")
    assert "--against: expected one of --rows, got 'absvit'" in complaint(2, SCRIPT, *words, "--against", "absvit")
