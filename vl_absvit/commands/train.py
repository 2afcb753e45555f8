"""Train any task, by its config.

vl-absvit train --config demo/vqa [--task vqa] [--optim.batch_size 64 ...]
accelerate launch --multi_gpu --num_processes 8 -m vl_absvit train --config vqa_absvit_base --data.root OUT
"""

from vl_absvit.cli import OptionParser, add_task_option, parse_run_config, run_main


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--config", required=True, metavar="F", help="a run's config; --a.b VALUE overrides its keys")
    add_task_option(parser)
    arguments, overrides = parser.parse_known_args()
    from vl_absvit.tasks.registry import choose_task
    from vl_absvit.training.loop import launch

    task = choose_task(arguments.task, arguments.config)
    launch(parse_run_config(task.config_class, ["--config", arguments.config, *overrides]), task)


if __name__ == "__main__":
    run_main(main)
