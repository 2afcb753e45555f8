"""The benchmark of search: both sides find the same, and the numbers are there."""

import json

from benchmarks.search import run


def test_both_sides_are_measured(tmp_path, capsys):
    run(pictures=2000, width=8, texts=2, repeats=2, output=tmp_path / "search.json")
    written = json.loads((tmp_path / "search.json").read_text())
    assert set(written["results"]) == {"block by block, from the file", "all at once, in memory"}
    assert all(side["seconds"]["low"] > 0 for side in written["results"].values())
    assert "2,000 pictures, 8 wide, 2 at a time" in capsys.readouterr().out
