"""``data_prep/make_demo.py``: exit codes and one clear line for whatever is wrong."""

from tests.run_script import run_script


def make_demo(*arguments):
    return run_script("data_prep/make_demo.py", *arguments)


def test_a_folder_with_other_things_ends_with_code_1_and_one_line(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert make_demo("--output", tmp_path) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path}: the folder is not empty") and said.count("\n") == 1


def test_no_scenes_is_a_usage_error_and_makes_nothing(tmp_path, capsys):
    assert make_demo("--output", tmp_path / "world", "--scenes", 0) == 2
    assert "--scenes" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_world_of_styles_is_another_one(tmp_path, capsys):
    assert make_demo("--output", tmp_path / "styles", "--styles", 9) == 0
    assert (tmp_path / "styles/sketch_test_kfold.txt").is_file() and not (tmp_path / "styles/vqav2").exists()
    assert make_demo("--output", tmp_path / "styles", "--scenes", 8) == 1
    assert "holds a demo world made with {'format': 1, 'seed': 0, 'styles': 9}" in capsys.readouterr().err
    assert make_demo("--output", tmp_path / "styles", "--scenes", 8, "--styles", 9) == 2
    assert make_demo("--output", tmp_path / "other", "--styles", 0) == 2


def test_the_world_to_pretrain_on_is_another_one(tmp_path, capsys):
    assert make_demo("--output", tmp_path / "world", "--pretraining", 2) == 0
    assert {path.name for path in (tmp_path / "world").iterdir()} == {
        "conceptual_captions", "nlvr2", "snli_ve", "demo.json",
    }  # fmt: skip
    assert make_demo("--output", tmp_path / "other", "--pretraining", 1) == 2
    assert "expected --pretraining >= 2, got 1" in capsys.readouterr().err
