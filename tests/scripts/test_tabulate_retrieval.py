"""Retrieval results side by side."""

import json

import pytest

from tests.run_script import run_script


def result(shortlist, ir_r1, **changes) -> dict:
    recalls = {f"{direction}_r{k}": 50.0 for direction in ("ir", "tr") for k in (1, 5, 10)}
    told = dict(checkpoint="c", dataset="flickr30k", split="test", zero_shot=True, model="AbSViT", look="second")
    return recalls | told | {"ir_r1": ir_r1, "shortlist": shortlist, "pairs": 7, "seconds": 1.0} | changes


def test_shortlists_are_compared_with_all_pairs_of_the_same_checkpoint_and_split(tmp_path, capsys):
    rows = [
        result("all", 40.0),
        result(8, 37.5, pairs=8),
        result("none", 20.0, look="first"),
        result(8, 1.0, split="val"),
    ]
    files = []
    for number, row in enumerate(rows):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(row))
    assert run_script("scripts/tabulate_retrieval.py", *files, "--output", tmp_path / "table.json") == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert [(row["shortlist"], row["ir_r1_minus_all"]) for row in table] == [
        ("none", -20.0), ("all", 0.0), (8, -2.5), (8, None),
    ]  # fmt: skip
    assert "-2.5" in capsys.readouterr().out


def test_another_file_is_one_line(tmp_path, complaint):
    (tmp_path / "a.json").write_text('{"overall": 3}')
    assert "expected a result of vl-absvit evaluate-retrieval" in complaint(
        1, "scripts/tabulate_retrieval.py", tmp_path / "a.json"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ir_r1", "40"), ("tr_r5", None), ("ir_r10", True), ("zero_shot", "yes"), ("model", 3), ("checkpoint", []),
        ("pairs", 1.5), ("seconds", None), ("shortlist", None),
    ],
)  # fmt: skip
def test_a_result_made_of_something_else_is_one_line(tmp_path, complaint, name, value):
    (tmp_path / "a.json").write_text(json.dumps(result("all", 40.0)))
    (tmp_path / "b.json").write_text(json.dumps(result(8, 40.0) | {name: value}))
    line = complaint(1, "scripts/tabulate_retrieval.py", tmp_path / "a.json", tmp_path / "b.json")
    assert line == (
        f"{tmp_path / 'b.json'}: expected a result of vl-absvit evaluate-retrieval, but its {name} is {value!r}"
    )
