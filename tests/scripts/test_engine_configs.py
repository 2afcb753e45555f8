"""The launcher's files: accelerate reads every key of them, and the program takes the engines that they ask for."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from accelerate.commands.config import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from tests.run_script import ROOT
from vl_absvit.training.engines import check_precision, set_up_engine

FILES = sorted((ROOT / "configs/accelerate").iterdir())
ENGINES = {
    "ddp": DistributedType.MULTI_GPU,
    "multi_node": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "deepspeed_zero2": DistributedType.DEEPSPEED,
    "deepspeed_zero3": DistributedType.DEEPSPEED,
}
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def launched(file: Path):
    """What ``accelerate launch`` makes of a file: its arguments."""
    arguments = launch_command_parser().parse_args(
        ["--config_file", str(file), "--main_process_port", "0", "scripts/finetune_vqa.py"]
    )
    return _validate_launch_command(arguments)[0]


def handed_on(file: Path) -> dict[str, str]:
    """The variables in which ``accelerate launch`` tells a program what a file says."""
    arguments = launched(file)
    if ENGINES[file.stem] != DistributedType.DEEPSPEED:
        return prepare_multi_gpu_env(arguments)
    arguments.deepspeed_fields_from_accelerate_config = ""
    return prepare_deepspeed_cmd_env(arguments)[1]


def test_there_is_a_file_for_every_engine():
    assert {file.stem for file in FILES} == set(ENGINES) and {file.suffix for file in FILES} == {".yaml"}


@each_file
def test_accelerate_knows_every_key(file):
    config = load_config_from_file(str(file))  # refuses unknown keys
    assert config.distributed_type == ENGINES[file.stem]
    known = vars(launch_command_parser().parse_args(["script.py"]))
    content = yaml.safe_load(file.read_text())
    for section in ("fsdp_config", "deepspeed_config"):  # where it ignores them
        assert set(content.get(section, {})) <= set(known)
    assert "mixed_precision" not in content and "gradient_accumulation_steps" not in str(content)


@each_file
def test_the_program_accepts_what_the_launcher_hands_on(file, monkeypatch):
    environment, engine = handed_on(file), ENGINES[file.stem]
    assert launched(file).num_processes > 1
    if engine == DistributedType.DEEPSPEED:
        assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == file.stem[-1]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    plugin = SimpleNamespace(zero_stage=2, deepspeed_config={}, mixed_precision_policy="bf16")
    state = SimpleNamespace(fsdp_plugin=plugin, deepspeed_plugin=plugin)
    set_up_engine(SimpleNamespace(distributed_type=engine, state=state))
    for precision in ("fp32", "bf16"):
        check_precision(precision)
    if engine == DistributedType.FSDP:
        assert plugin.mixed_precision_policy is None


@each_file
def test_the_remarks_name_what_is_there_and_say_what_was_not_run(file):
    remarks = " ".join(line.removeprefix("#") for line in file.read_text().splitlines() if line.startswith("#"))
    assert "Not run on GPUs" in remarks and f"configs/accelerate/{file.name}" in remarks
    for path in re.findall(r"(?:configs|scripts)/[\w/]+\.(?:yaml|py)", remarks):
        assert (ROOT / path).is_file(), path
    assert max(len(line) for line in file.read_text().splitlines()) <= 120
