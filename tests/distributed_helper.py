"""Run a function on several gloo processes on the CPU.

They are forked from a server that has imported what takes long and done nothing else: children of a process in which
torch has used its thread pool would hang.
"""

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.fork_server import IF_INSTALLED, IMPORTS

multiprocessing.set_forkserver_preload([*IMPORTS, *IF_INSTALLED])


def run_on_ranks(function: Callable[..., Any], world_size: int, *args: Any) -> list[Any]:
    """Results of ``function(*args)`` on each of ``world_size`` processes that form a process group, in rank order.

    Args:
        function: defined at the top of a module; returns tensors, numbers, strings or containers of them.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        arguments = (world_size, port, folder, dict(os.environ), function, args)
        mp.start_processes(_run_rank, arguments, nprocs=world_size, start_method="forkserver")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(world_size)]


def _run_rank(
    rank: int,
    world_size: int,
    port: int,
    folder: str,
    environment: dict[str, str],
    function: Callable[..., Any],
    args: tuple,
) -> None:
    os.environ |= environment | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
    }
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.save(function(*args), Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
