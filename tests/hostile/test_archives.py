"""Archives of maps that hold objects, programs or far more than their size."""

import pytest

from tests.exported import add_question
from tests.hostile.bounded import MEMORY, complaint_of, run_bounded
from tests.hostile.corpus import bad_archives
from vl_absvit.errors import InputError
from vl_absvit.looking.export_reader import read_index, read_maps


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Contents with a word of their complaints, and the folder that some of them would make."""
    target = tmp_path_factory.mktemp("archives") / "made"
    return bad_archives(target), target


NAMES = (
    "objects", "pickle", "program as a header", "deep header", "10^18 numbers", "negative shape",
    "strings of a gigabyte", "bomb", "a single array", "empty", "cut",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_archive_is_refused_and_runs_nothing(archives, tmp_path, name):
    contents, target = archives
    assert set(contents) == set(NAMES)
    content, words = contents[name]
    add_question(tmp_path, "1")
    (tmp_path / "1.npz").write_bytes(content)
    (entry,) = read_index(tmp_path)

    def read() -> None:
        with pytest.raises(InputError, match="1.npz: expected an archive of maps") as caught:
            read_maps(tmp_path, entry)
        assert words in str(caught.value)

    outcome = run_bounded(read, memory=MEMORY // 4)
    assert outcome.code == 0 and not target.exists(), outcome.err


def test_a_hostile_archive_is_one_line_of_a_report(archives, tmp_path):
    contents, target = archives
    add_question(tmp_path, "1")
    (tmp_path / "1.npz").write_bytes(contents["objects"][0])
    line = complaint_of(1, "scripts/attention_report.py", "--maps", tmp_path, "--output", tmp_path / "report.html")
    assert "1.npz: expected an archive of maps: Object arrays" in line and not target.exists()
    assert not (tmp_path / "report.html").exists()
