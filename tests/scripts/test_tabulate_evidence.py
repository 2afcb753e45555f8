"""Tables of the evidence: scores over seeds, paired differences, and what is not finished."""

import json

import pytest

from tests.run_script import run_script

SCRIPT = "scripts/tabulate_evidence.py"


def write_run(folder, vqa: float, *, has_prior: bool = True, **more) -> None:
    retrieval = [{"ir_r1": 10.0, "tr_r1": 20.0}, {"ir_r1": 30.0, "tr_r1": 40.0}]
    agreement = {"bottom_up": 0.125, "bottom_up_cls": 0.25, "cross": 0.125}
    summary = {"vqa_accuracy": vqa, "retrieval": retrieval, "agreement": agreement, "bottom_up_pointing": 50.0} | more
    if has_prior:
        agreement |= {"prior_mask": 0.5, "top_down": 0.625, "top_down_cls": 0.75}
        summary |= {"prior_mask_pointing": 80.0, "top_down_pointing": 60.0}
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))


def write_steering(folder, trained: float, **of_alpha: dict) -> None:
    """``compare_priors.py``'s file: asked half and both halves by strength, such as ``a10=(90, 80)``."""
    top_down = [
        {"alpha": float(name[1:]), "asked_half": half, "both_halves": both} for name, (half, both) in of_alpha.items()
    ]
    (folder / "steering").mkdir()
    (folder / "steering/scores.json").write_text(json.dumps({"trained_alpha": trained, "top_down": top_down}))


def tabulate(root, *rows, more=()):
    """The written JSON and the tables of the markdown as title -> row -> cells."""
    assert run_script(SCRIPT, root, "--rows", *rows, *more, "--output", root / "table") == 0
    tables, title = {}, None
    for line in (root / "table.md").read_text().splitlines():
        if not line.startswith("|"):
            title = line or title
        elif not line.startswith("| ---"):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            tables.setdefault(title, []).append((name, cells))
    return json.loads((root / "table.json").read_text()), tables


def test_each_row_is_the_mean_over_its_seeds_with_the_sample_deviation(tmp_path):
    for seed, vqa in enumerate((90.0, 92.0, 94.0)):
        write_run(tmp_path / f"absvit-{seed}", vqa)
        write_run(tmp_path / f"vit-{seed}", 80.0, has_prior=False)
    table, _ = tabulate(tmp_path, "vit", "absvit")
    absvit, vit = (table["rows"][name]["scores"] for name in ("absvit", "vit"))
    assert table["rows"]["absvit"]["seeds"] == [0, 1, 2]
    assert absvit["vqa"] == {"mean": 92.0, "standard_deviation": 2.0, "by_seed": {"0": 90.0, "1": 92.0, "2": 94.0}}
    assert (absvit["agreement_cls"]["mean"], absvit["agreement_tokens"]["mean"]) == (0.75, 0.625), "the second look's"
    assert (vit["agreement_cls"]["mean"], vit["agreement_tokens"]["mean"]) == (0.25, 0.125), "the only look's"
    assert vit["pointing_tokens"]["mean"] == 50.0
    assert "pointing_mask" not in vit and "mask_shut" not in absvit
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[4].startswith("| vit | 3 | 80.0 ± 0.0 | 10.0 ± 0.0 |")
    assert lines[5].startswith("| absvit | 3 | 92.0 ± 2.0 |")


def test_differences_are_taken_seed_by_seed_and_a_clear_one_is_bold(tmp_path):
    # Minus absvit: vit -10, -11, -12, that is -11 ± 1 / sqrt(3) and clear; mask_att -1, 0 and +1.
    for seed, vqa in enumerate((90.0, 70.0, 80.0)):
        write_run(tmp_path / f"absvit-{seed}", vqa)
        write_run(tmp_path / f"vit-{seed}", vqa - 10 - seed, has_prior=False)
        write_run(tmp_path / f"mask_att-{seed}", vqa - 1 + seed)
    table, tables = tabulate(tmp_path, "vit", "mask_att", "absvit")
    difference = table["differences"]["vit"]["vqa"]
    assert difference["by_seed"] == {"0": -10.0, "1": -11.0, "2": -12.0} and difference["excludes_zero"]
    assert difference["mean"] == -11.0 and difference["standard_error"] == pytest.approx(3**-0.5)
    assert difference["interval"][0] < -11 < difference["interval"][1] < 0
    assert "pointing_mask" not in table["differences"]["vit"], "a plain ViT has no mask"
    assert not table["differences"]["mask_att"]["vqa"]["excludes_zero"] and set(table["differences"]) == {
        "vit",
        "mask_att",
    }
    found = dict(tables["Answers and retrieval, minus absvit seed by seed: mean ± standard error."][1:3])
    assert found["vit"][:2] == ["3", "**-11.0 ± 0.6**"] and found["mask_att"][:2] == ["3", "+0.0 ± 0.6"]


def test_what_is_not_finished_is_named_and_the_rest_is_tabulated(tmp_path, capsys):
    write_run(tmp_path / "absvit-0", 91.0)
    for name in ("absvit-1", "vit-0", "vit-10", "vit-9"):
        (tmp_path / name).mkdir()
    table, tables = tabulate(tmp_path, "vit", "absvit")
    assert [table["rows"][name]["missing"] for name in ("vit", "absvit")] == [[0, 9, 10], [1]]
    first, *_ = (tmp_path / "table.md").read_text().splitlines()
    assert first == "Not finished: vit-0, vit-9, vit-10, absvit-1."
    assert first in capsys.readouterr().out.replace("\n", " ")
    vit, absvit = tables["Answers and retrieval: mean ± standard deviation over seeds."][1:3]
    assert vit[1][:2] == ["0", "-"] and absvit[1][:2] == ["1", "91.0"]


@pytest.mark.parametrize("is_in_the_summary", [True, False])
def test_steering_is_that_of_the_trained_strength_and_shut_masks_are_the_summarys(tmp_path, is_in_the_summary):
    of_masks = {"prior_mask": {"asked": {"shut": 0.25, "open": 20.0}, "absent": None}}
    steering = {"alpha": 10.0, "asked_half": 90.0, "both_halves": 80.0} if is_in_the_summary else None
    write_run(tmp_path / "absvit-0", 91.0, **of_masks, steering=steering)
    if not is_in_the_summary:  # an earlier version left it beside
        write_steering(tmp_path / "absvit-0", 10.0, a3=(50.0, 40.0), a10=(90.0, 80.0), a30=(99.0, 98.0))
    scores = tabulate(tmp_path, "absvit")[0]["rows"]["absvit"]["scores"]
    found = {name: scores[name]["mean"] for name in ("steered_half", "steered_both", "mask_shut", "mask_open")}
    assert found == {"steered_half": 90.0, "steered_both": 80.0, "mask_shut": 0.25, "mask_open": 20.0}


@pytest.mark.parametrize(
    ("code", "arguments", "expected"),
    [
        (1, ["absvit", "mask_att"], "row mask_att has no run; expected folders such as mask_att-0"),
        (1, ["broken"], "expected a summary of summarise_demo.py with agreement and two retrieval results"),
        (1, ["other"], "expected a result of vl-absvit compare-priors --pairs for the trained strength"),
        (2, ["absvit", "--against", "vit"], "--against: expected one of --rows, got 'vit'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, complaint, code, arguments, expected):
    for name in ("absvit-0", "vit-0", "other-0"):
        write_run(tmp_path / name, 90.0)
    write_steering(tmp_path / "other-0", 10.0, a3=(50.0, 40.0))
    (tmp_path / "broken-0").mkdir()
    (tmp_path / "broken-0" / "summary.json").write_text('{"vqa_accuracy": 90.0, "retrieval": []}')
    assert expected in complaint(code, SCRIPT, tmp_path, "--output", tmp_path / "table", "--rows", *arguments)
    assert not (tmp_path / "table.md").exists()
