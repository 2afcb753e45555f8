"""Train any task, by its config.

vl-absvit train --config demo/vqa [--task vqa] [--optim.batch_size 64 ...]
accelerate launch --multi_gpu --num_processes 8 -m vl_absvit train --config vqa_absvit_base --data.root OUT
"""

from vl_absvit.cli import OptionParser, parse_run_config, run_main


def main() -> None:
    from vl_absvit.tasks.registry import TASKS, find_task
    from vl_absvit.training.loop import launch

    parser = OptionParser(__doc__)
    parser.add_argument("--config", required=True, metavar="F", help="a run's config; --a.b VALUE overrides its keys")
    parser.add_argument("--task", choices=TASKS, help="what the config is for (default: what its keys say)")
    arguments, overrides = parser.parse_known_args()
    task = TASKS[arguments.task] if arguments.task else find_task(arguments.config, overrides)
    launch(parse_run_config(task.config_class, ["--config", arguments.config, *overrides]), task)


if __name__ == "__main__":
    run_main(main)
