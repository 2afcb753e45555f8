"""The benchmark of preparation: a data set of the official form, sides that take turns, folders that must be equal."""

import json
from pathlib import Path

import pytest

from benchmarks import preparation
from benchmarks.checkouts import OTHER, OURS, ROOT
from benchmarks.preparation import PROGRAM, Run, content_of, run, summarise, take_turns, write_raw
from tests.run_script import run_script
from vl_absvit.data.records import read_annotations
from vl_absvit.errors import ConfigError, InputError


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(preparation, "SIZE", (64, 48))
    monkeypatch.setattr(preparation, "DISTINCT_PICTURES", 3)


def prepare_here(checkout: Path, raw: Path, output: Path) -> Run:
    """In place of a process: every checkout is this one."""
    assert run_script(PROGRAM, "--root", raw, "--output", output, "--workers", 1, "--min-count", 1) == 0
    return Run(2.0 if checkout == ROOT else 6.0, 1.0, 10**6)


def test_the_made_up_data_set_is_prepared_whole(tmp_path):
    write_raw(tmp_path / "raw", images=8)
    prepare_here(ROOT, tmp_path / "raw", tmp_path / "out")
    manifest = content_of(tmp_path / "out")["manifest.json"]
    counts = [manifest["splits"][split] for split in ("val", "minival")]
    assert sum(each["questions"] for each in counts) == 40 and sum(each["images"] for each in counts) == 8
    records = read_annotations(tmp_path / "out", ["val", "minival"])
    assert all(len(record["answers"]) == 10 for record in records)
    assert len({tuple(record["answers"]) for record in records}) > 20  # people differ, and so do questions


def test_sides_take_turns_and_everything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(preparation, "prepare", prepare_here)
    other = tmp_path / "other"
    (other / PROGRAM).parent.mkdir(parents=True)
    (other / PROGRAM).touch()
    run(images=4, beside=other, repeats=2, output=tmp_path / "t.json")
    results = json.loads((tmp_path / "t.json").read_text())["results"]
    assert results["ratio"]["median"] == 3 and results[OTHER]["seconds"]["low"] == 6
    assert "20 questions about 4 pictures" in " ".join(capsys.readouterr().out.split())


def test_folders_that_differ_are_no_result(tmp_path, monkeypatch):
    def prepare(checkout: Path, raw: Path, output: Path) -> Run:
        output.mkdir()
        manifest = dict.fromkeys(preparation._TOLD, str(checkout))
        (output / "manifest.json").write_text(json.dumps(manifest))
        return Run(1.0, 1.0, 1)

    monkeypatch.setattr(preparation, "prepare", prepare)
    with pytest.raises(InputError, match="the prepared folders differ"):
        take_turns({OURS: ROOT, OTHER: tmp_path / "other"}, tmp_path, 1, lambda: None)


def test_one_side_alone_has_no_ratio():
    assert "ratio" not in summarise({OURS: [Run(1.0, 2.0, 3), Run(3.0, 2.0, 3)]})


def test_another_folder_than_a_checkout_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="expected a checkout of this project"):
        run(images=1, beside=tmp_path, repeats=1, output=None)
