"""``data_prep/prepare_vqa_hat.py``: what it prints, and exit codes with one line for whatever is wrong."""

import pytest

from tests.prepare.raw_vqa_hat import questions_file, write_small_hat
from tests.run_script import run_script


@pytest.fixture
def options(tmp_path):
    raw = write_small_hat(tmp_path / "raw")
    return {"--maps": raw / "maps", "--questions": questions_file(raw), "--images": raw, "--output": tmp_path / "out"}


def prepare(options):
    return run_script("data_prep/prepare_vqa_hat.py", *[word for pair in options.items() for word in pair])


def test_it_says_what_was_prepared_and_the_second_time_that_nothing_was_to_do(options, capfd):
    assert prepare(options | {"--workers": 1}) == 0
    done = capfd.readouterr()
    assert done.out == "val: 18 human maps of 6 questions on 3 images\n"
    assert "warning: val: 18 human maps are there, the published set has 4,122" in done.err
    assert prepare(options) == 0
    assert "is finished already; nothing to do" in capfd.readouterr().out


def test_an_error_of_the_data_is_one_line_and_code_1(options, capfd):
    (options["--maps"] / "notes.txt").write_text("mine")
    assert prepare(options) == 1
    assert capfd.readouterr().err.startswith("error: ") and not options["--output"].exists()


def test_wrong_options_end_with_code_2(options, capfd):
    del options["--questions"]
    assert prepare(options) == 2
    assert "the following arguments are required: --questions" in capfd.readouterr().err
