"""Fit the feedback decoders of a trunk in closed form, as finetuning does where its start weights hold none.

vl-absvit fit-decoders --config demo/vqa --output trunk [--vision.weights W --data.root OUT ...]
The config of a finetuning says the trunk, its weights, the data and the seed that chooses the images. The folder holds
the trunk with its decoders, for ``--vision.weights``; with ``--optim.learning_rates.feedback 0`` they stay as they are.
"""

import argparse
from pathlib import Path

from vl_absvit.cli import OptionParser, add_task_option, log_on_stderr, parse_run_config, run_main
from vl_absvit.config import VisionLanguageConfig
from vl_absvit.errors import ConfigError, InputError


def main() -> None:
    arguments, overrides = parse_arguments()
    from vl_absvit.tasks.registry import choose_task

    task = choose_task(arguments.task, arguments.config)
    if not issubclass(task.config_class, VisionLanguageConfig):
        raise ConfigError(f"--config {arguments.config}: expected the config of a finetuning, got one of a pretraining")
    config = parse_run_config(task.config_class, ["--config", arguments.config, *overrides])
    if arguments.output.exists():
        raise InputError(f"{arguments.output}: already there; expected a new folder to write")
    from vl_absvit.tasks.trunk_file import fit_trunk, write_trunk
    from vl_absvit.training.checkpoint import save_checkpoint

    with log_on_stderr():
        trunk = fit_trunk(config)
    save_checkpoint(arguments.output, lambda folder: write_trunk(trunk, config, folder))
    print(f"{arguments.output}: for --vision.weights {arguments.output}")


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """This script's options, and the overrides of the config."""
    parser = OptionParser(__doc__)
    parser.add_argument("--config", required=True, metavar="F", help="of a finetuning; --a.b VALUE overrides its keys")
    add_task_option(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to be made")
    return parser.parse_known_args()


if __name__ == "__main__":
    run_main(main)
