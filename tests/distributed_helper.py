"""Run a function on several gloo processes on the CPU."""

from collections.abc import Callable
from typing import Any

import torch.distributed as dist

from tests.fork_server import the_server


def run_on_ranks(function: Callable[..., Any], world_size: int, *args: Any) -> list[Any]:
    """Results of ``function(*args)`` on each of ``world_size`` processes that form a process group, in rank order.

    Args:
        function: defined at the top of a module; returns tensors, numbers, strings or containers of them.
    """
    return the_server().call(_in_a_group, function, args, processes=world_size)


def _in_a_group(function: Callable[..., Any], args: tuple) -> Any:
    dist.init_process_group("gloo")
    result = function(*args)
    dist.barrier()
    dist.destroy_process_group()
    return result
