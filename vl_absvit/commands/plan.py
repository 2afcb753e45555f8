"""What a training run needs before it is started: memory per process, time per step, days; and what fits.

vl-absvit plan --config vqa_absvit_base --gpus 8 --gpu-memory 80 [--vision.image_size 384 ...]
Memory and operations are counted on tensors without content, through the code that trains; no GPU, no data and no
download is needed. Time follows from a rate: of real steps on this machine (--measure), or given (--tflops and
--utilisation).
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from vl_absvit.cli import OptionParser, add_task_option, config_keys, is_option, parse_run_config, progress, run_main
from vl_absvit.errors import ConfigError

if TYPE_CHECKING:
    from vl_absvit.config import TaskConfig
    from vl_absvit.tasks.facts import Facts

GIB, TERA = 2**30, 1e12


def main() -> None:
    arguments, overrides = parse_arguments()
    from vl_absvit.tasks.registry import choose_task

    task = choose_task(arguments.task, arguments.config)
    config = parse_run_config(task.config_class, ["--config", arguments.config, *overrides])

    from vl_absvit.data.json_files import make_room, write_json
    from vl_absvit.planning.choices import micro_batch_sizes, recommend, try_choices
    from vl_absvit.planning.counter import Counter
    from vl_absvit.planning.plan_report import Setting, describe, show
    from vl_absvit.planning.step import find_facts

    if arguments.output:
        make_room(arguments.output)
    facts, processes, optim = find_facts(config, arguments.samples), arguments.gpus, config.optim
    sizes = micro_batch_sizes(optim, processes, least=-(-task.least_samples(config) // processes))
    measured = measure(config, facts, arguments.device, arguments.measure) if arguments.measure else []
    setting = Setting(task.kind, arguments.device, processes, arguments.gpu_memory, arguments.headroom)
    room = (1 - setting.headroom) * setting.memory_gib * GIB
    counter = Counter(config, facts, arguments.device, processes)
    with progress() as bar:
        tried = try_choices(counter.count, optim, processes, sizes, counter.states.total, room)
        choices = list(bar.track(tried, description="counting"))
    chosen = recommend(choices, optim, processes, config.run.precision)
    rates = rates_of(measured, arguments, config.run.precision)
    plan = describe(setting, config, facts, counter.states, choices, chosen, rates, measured)
    show(Console(), plan)
    if arguments.output:
        write_json(arguments.output, plan, indent=1)


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """This script's options, and the overrides of the config."""
    parser = OptionParser(__doc__)
    parser.add_argument("--config", required=True, metavar="F", help="a run's config; --a.b VALUE overrides its keys")
    parser.add_argument("--gpus", type=number, default=1, metavar="N", help="processes, one per GPU (default: 1)")
    parser.add_argument("--gpu-memory", type=amount, required=True, metavar="G", help="memory of each, in GiB")
    parser.add_argument(
        "--headroom", type=below_one, default=0.1, metavar="SHARE",
        help="of the memory, for what is not counted: the driver's context, workspaces of libraries, fragmentation; "
        "an assumption (default: 0.1)",
    )  # fmt: skip
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="whose kernels run (default: cuda)")
    add_task_option(parser)
    parser.add_argument("--samples", type=number, metavar="N", help="training samples (default: the prepared data's)")
    parser.add_argument(
        "--measure", type=number, metavar="B",
        help="run steps of B samples on this machine's --device, in both precisions: their memory, and rates",
    )  # fmt: skip
    parser.add_argument(
        "--tflops", type=amount, metavar="T",
        help="a GPU's peak in the config's precision, instead of --measure; NVIDIA's data sheets, bf16, dense: "
        "A100 312, H100 SXM and H200 989",
    )  # fmt: skip
    parser.add_argument("--utilisation", type=up_to_one, metavar="SHARE", help="of --tflops that training reaches")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the whole plan as JSON")
    arguments, overrides = parser.parse_known_args()
    if (arguments.tflops is None) != (arguments.utilisation is None):
        parser.error("--tflops and --utilisation go together")
    if arguments.tflops and arguments.measure:
        parser.error("--measure and --tflops both say how fast training is; expected one of them")
    from vl_absvit.tasks.registry import TASKS

    keys = {key for task in TASKS.values() for key in config_keys(task.config_class)}
    names = [word[2:].split("=", 1)[0] for word in overrides if word.startswith("--")]
    if unknown := [name for name in names if "." not in name and not is_option(name, keys)]:
        parser.error(f"unrecognized arguments: --{unknown[0]}")
    return arguments, overrides


def number(text: str) -> int:
    """A number of things, at least one."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


def amount(text: str) -> float:
    """More than nothing."""
    return _between(text, lambda value: 0 < value < float("inf"), "above 0")


def below_one(text: str) -> float:
    """A share that leaves something."""
    return _between(text, lambda value: 0 <= value < 1, "in [0, 1)")


def up_to_one(text: str) -> float:
    """A share that is not nothing."""
    return _between(text, lambda value: 0 < value <= 1, "in (0, 1]")


def _between(text: str, holds: Callable[[float], bool], where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not holds(value):
        raise argparse.ArgumentTypeError(f"must be a number {where}, got {text}")
    return value


def measure(config: "TaskConfig", facts: "Facts", device_name: str, samples: int) -> list[dict]:
    """Real steps in both precisions: what they took, and what is counted for them."""
    from vl_absvit.planning.measurement import hold_against_count

    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "benchmarks").is_dir():
        raise ConfigError("command line: --measure needs a checkout of the repository; --tflops needs none")
    sys.path.insert(0, str(checkout))  # benchmarks are no part of the installed package
    machine = importlib.import_module("benchmarks.measure")
    device = machine.pick_device(device_name)
    results = []
    for precision, dtype in machine.PRECISIONS.items():
        product = machine.take_turns([machine.matmul(device, dtype)], device, 5, lambda: None)
        seconds = machine.spread(product.seconds[machine.MATMUL]).median
        results.append(
            hold_against_count(config, facts, samples, device, precision)
            | {"matmul_flop_per_second": product.flops[machine.MATMUL] / seconds}
            | {"machine": machine.describe_machine(device)}
        )
    return results


def rates_of(measured: list[dict], arguments: argparse.Namespace, precision: str) -> dict:
    """By precision: measured, or for the config's ``precision`` as given; nothing where neither was asked for."""
    from vl_absvit.planning.choices import Rate

    if arguments.tflops:
        said = f"assumed: {arguments.utilisation:g} of {arguments.tflops:g}, as given; the optimizer's time left out"
        return {precision: Rate(arguments.utilisation * arguments.tflops * TERA, 0.0, said)}
    rates = {}
    for step in measured:
        part = step["flop_per_second"] / step["matmul_flop_per_second"]
        said = f"measured here on {step['samples']} samples, {part:.0%} of a plain matrix product's"
        rates[step["precision"]] = Rate(step["flop_per_second"], step["optimizer_seconds"], said)
    return rates


if __name__ == "__main__":
    run_main(main)
