"""YAML made to run something, to fill the memory, or to say one thing twice, is a config error of one line."""

import pytest

from tests.hostile.bounded import MEMORY, complaint_of
from tests.hostile.corpus import bad_configs

FINETUNE = "scripts/finetune_vqa.py"


@pytest.mark.parametrize("name", list(bad_configs(None)))
def test_hostile_yaml_is_exit_code_2_and_runs_nothing(tmp_path, name):
    content, words = bad_configs(tmp_path / "made")[name]
    (tmp_path / "run.yaml").write_bytes(content)
    line = complaint_of(2, FINETUNE, "--config", tmp_path / "run.yaml", memory=MEMORY // 2)
    assert words in line and "run.yaml" in line and not (tmp_path / "made").exists()


def test_a_device_is_no_config():
    line = complaint_of(2, FINETUNE, "--config", "/dev/zero", memory=MEMORY // 4)
    assert "config /dev/zero: not YAML: " in line


@pytest.mark.parametrize(
    "value",
    ["!!python/object/apply:os.getcwd []", "[" * 500 + "]" * 500, "9" * 5000, "&a [*a]", "a\x1b[2J", ".nan", "1e999"],
)
def test_a_hostile_value_on_the_command_line_is_exit_code_2(value):
    line = complaint_of(2, FINETUNE, "--data.root", "x", "--run.output", "y", "--optim.epochs", value)
    assert "command line" in line
