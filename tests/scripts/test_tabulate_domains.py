"""The table of domains that were left out: means over seeds, and no run that saw other pictures than it should."""

import json

import pytest

from tests.run_script import run_script

TARGETS = ("ink", "oil")


@pytest.fixture
def data(tmp_path):
    """The manifest of two domains."""
    content = {target: {split: f"{target} {split}" for split in ("train", "val", "test")} for target in TARGETS}
    splits = {target: {"test": {"images": 4}} for target in TARGETS}
    (tmp_path / "data").mkdir()
    manifest = {"kind": "domains", "content": content, "splits": splits}
    (tmp_path / "data/manifest.json").write_text(json.dumps(manifest))
    return tmp_path / "data"


def write_run(root, name, target, top1, *, trained=None, judged=None, images=4) -> None:
    run = root / name / target
    (run / "checkpoints/best").mkdir(parents=True)
    content = {split: f"{trained or target} {split}" for split in ("train", "val")}
    (run / "checkpoints/best/training.json").write_text(json.dumps({"content": content}))
    result = {"data": f"elsewhere/{judged or target}/test", "images": images, "top1": top1}
    (run / "test.json").write_text(json.dumps(result))


def tabulate(root, data, *more):
    words = (root, "--data", data, "--output", root / "table", *more)
    assert run_script("vl-absvit", "tabulate-domains", *words) == 0
    return json.loads((root / "table.json").read_text()), (root / "table.md").read_text()


def test_each_target_and_their_mean_are_means_over_seeds(tmp_path, data, capsys):
    for seed in (0, 1):
        write_run(tmp_path / "runs", f"vit-{seed}", "ink", 50.0 + 10 * seed)
        write_run(tmp_path / "runs", f"vit-{seed}", "oil", 70.0)
        write_run(tmp_path / "runs", f"absvit-{seed}", "ink", 60.0 + 10 * seed)
        write_run(tmp_path / "runs", f"absvit-{seed}", "oil", 75.0)
    write_run(tmp_path / "runs", "vit-2", "ink", 0.0)
    table, text = tabulate(tmp_path / "runs", data, "--against", "vit")
    assert list(table["rows"]) == ["absvit", "vit"] and table["rows"]["vit"]["missing"] == [2]
    scores = table["rows"]["vit"]["scores"]
    assert scores["ink"]["by_seed"] == {"0": 50.0, "1": 60.0} and scores["ink"]["mean"] == 55.0
    assert scores["mean"]["by_seed"] == {"0": 60.0, "1": 65.0}, "domains count alike, whatever their sizes"
    assert scores["mean"]["standard_deviation"] == pytest.approx(12.5**0.5)
    assert table["differences"]["absvit"]["mean"]["by_seed"] == {"0": 7.5, "1": 7.5}
    assert "| vit | 2 | 55.0 ± 7.1 | 70.0 ± 0.0 | 62.5 ± 3.5 |" in text and text.startswith("Not finished: vit-2.")
    assert "on ink" in capsys.readouterr().out


def test_without_a_recipe_to_compare_with_there_are_no_differences(tmp_path, data):
    for target in TARGETS:
        write_run(tmp_path / "runs", "vit-0", target, 50.0)
    table, text = tabulate(tmp_path / "runs", data)
    assert table["differences"] == {} and "minus" not in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trained": "ink"}, "runs/vit-0/oil: was not trained and selected on the domains beside oil of --data"),
        ({"judged": "ink"}, "oil/test.json: expected 4 pictures of oil/test, got 4 of ink/test"),
        ({"images": 3}, "oil/test.json: expected 4 pictures of oil/test, got 3 of oil/test"),
        ({"top1": None}, "oil/test.json: expected a result of vl-absvit evaluate-vision"),
        ({"top1": "50"}, "oil/test.json: expected a result of vl-absvit evaluate-vision"),
        ({"top1": 500}, "oil/test.json: expected a result of vl-absvit evaluate-vision"),
    ],
)
def test_a_run_that_saw_other_pictures_is_refused(tmp_path, data, complaint, changes, message):
    write_run(tmp_path / "runs", "vit-0", "ink", 50.0)
    write_run(tmp_path / "runs", "vit-0", "oil", **{"top1": 50.0} | changes)
    words = (tmp_path / "runs", "--data", data, "--output", tmp_path / "table")
    assert message in complaint(1, "vl-absvit", "tabulate-domains", *words)


def test_other_folders_and_recipes_are_one_line(tmp_path, data, complaint):
    words = ("tabulate-domains", tmp_path, "--output", tmp_path / "table")
    assert "there are none" in complaint(1, "vl-absvit", *words, "--data", data)
    (tmp_path / "vit-0").mkdir()
    line = complaint(2, "vl-absvit", *words, "--data", data, "--against", "absvit")
    assert "--against: expected one of vit, got 'absvit'" in line
    (data / "manifest.json").write_text('{"kind": "vqa"}')
    line = complaint(1, "vl-absvit", *words, "--data", data)
    assert line.endswith("expected a folder of vl-absvit prepare-domains, got 'vqa'")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("splits"),
        lambda content: content.pop("content"),
        lambda content: content.update(splits={}),
        lambda content: content.update(splits=["ink", "oil"]),
        lambda content: content.update(splits=[1]),
        lambda content: content["splits"]["ink"].update(test=None),
        lambda content: content["splits"]["ink"]["test"].update(images="4"),
    ],
)
def test_a_manifest_of_another_form_is_one_line(tmp_path, data, complaint, damage):
    content = json.loads((data / "manifest.json").read_text())
    damage(content)
    (data / "manifest.json").write_text(json.dumps(content))
    write_run(tmp_path / "runs", "vit-0", "ink", 50.0)
    line = complaint(1, "vl-absvit", "tabulate-domains", tmp_path / "runs", "--data", data, "--output", tmp_path / "t")
    assert line.startswith(f"{data / 'manifest.json'}: expected ")


def test_two_folders_of_a_seed_are_one_line(tmp_path, data, complaint):
    for name in ("vit-0", "vit-00"):
        write_run(tmp_path / "runs", name, "ink", 50.0)
    line = complaint(1, "vl-absvit", "tabulate-domains", tmp_path / "runs", "--data", data, "--output", tmp_path / "t")
    assert line == f"{tmp_path / 'runs'}: vit-0 and vit-00 are both of seed 0"
