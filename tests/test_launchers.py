"""Every option of every script reaches it through the launchers, which read what stands behind a script's name, too."""

import runpy
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from vl_absvit.cli import OptionParser, config_keys
from vl_absvit.commands import (
    finetune_nlvr2,
    finetune_retrieval,
    finetune_segmentation,
    finetune_snli_ve,
    finetune_vqa,
    pretrain_pairs,
    pretrain_vision,
)

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    str(path.relative_to(ROOT)) for folder in ("scripts", "data_prep") for path in ROOT.glob(f"{folder}/*.py")
)
TRAININGS = (
    pretrain_vision, pretrain_pairs, finetune_vqa, finetune_retrieval, finetune_nlvr2, finetune_snli_ve,
    finetune_segmentation,
)  # fmt: skip
LAUNCHERS = {
    "torchrun": (get_args_parser, ["--nproc_per_node", "2"]),
    "accelerate launch": (launch_command_parser, ["--multi_gpu", "--num_processes", "2"]),
}


class _Read(BaseException):
    """A script has come to the point where it reads its command line."""


@pytest.fixture
def options_of(monkeypatch):
    """Names of a script's options, of all its subcommands, as it declares them when it is started."""
    parsers, config_classes = [], []

    def note_parser(parser, *_, **__):
        parsers.append(parser)
        raise _Read

    def note_config(config_class, *_):
        config_classes.append(config_class)
        raise _Read

    def find(script: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [script])
        with pytest.raises(_Read):
            runpy.run_path(str(ROOT / script), run_name="__main__")
        for parser in parsers:  # grows with the parsers of subcommands
            parsers.extend(
                each
                for action in parser._actions
                if isinstance(action.choices, dict)
                for each in action.choices.values()
                if isinstance(each, OptionParser)
            )
        options = [name for parser in parsers for name in parser._option_string_actions]
        keys = {key: is_group for config in config_classes for key, is_group in config_keys(config).items()}
        return options + [f"--{key}" for key, is_group in keys.items() if not is_group]

    monkeypatch.setattr(OptionParser, "parse_known_args", note_parser)
    for program in TRAININGS:
        monkeypatch.setattr(program, "parse_run_config", note_config)
    return find


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_option_reaches_its_script_through_every_launcher(options_of, script):
    options = options_of(script)
    # The app writes nothing, and train.py passes on what the trainings take.
    assert (
        "--output" in options
        or "--run.output" in options
        or script in ("scripts/app.py", "scripts/ask.py", "scripts/search.py", "scripts/train.py")
    )
    words = [word for option in [*options, "--config"] for word in (f"{option}=1", option, "1")]
    for parser, own in LAUNCHERS.values():
        read = parser().parse_args([*own, script, *words])
        assert (read.training_script, read.training_script_args) == (script, words)
        command = ["vl_absvit", Path(script).stem.replace("_", "-"), *words]
        read = parser().parse_args([*own, "-m", *command])
        assert read.module and [read.training_script, *read.training_script_args] == command


def test_this_would_notice_an_option_that_a_launcher_takes():
    with pytest.raises(SystemExit):
        get_args_parser().parse_args(["script.py", "--start", "folder"])
