"""Processes that share the training passes of one batch, each on one thread, with DDP over gloo.

They wait for a word before every pass, so that teams of different sizes can take turns.
"""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.agreement import total
from benchmarks.measure import FlopCounter
from benchmarks.memory import kept_for_backward
from benchmarks.samples import ANSWERS, Workload, questions_about
from benchmarks.synthetic import PAD, Size, random_model
from benchmarks.training import nowhere
from vl_absvit.config import Precision, VQAConfig
from vl_absvit.data.collate import collate_vqa
from vl_absvit.tasks.vqa import VQATask

CPU = torch.device("cpu")


class Share(NamedTuple):
    """What one process of a team does in a pass."""

    flop: int
    kept_bytes: int  # for the backward pass


class Team:
    """So many processes; ``train`` has all of them train once on a batch that they share.

    Attributes:
        share: of the first process.
    """

    def __init__(self, members: int, images: int, size: Size, precision: Precision, folder: Path) -> None:
        """
        Args:
            images: of the batch, each with a question; a multiple of ``members``.
            folder: an empty one, in which they meet.
        """
        # Forked from here they would hang once torch has used its threads.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._processes, self._pipes = [], []
        for rank in range(members):
            ours, theirs = context.Pipe()
            arguments = (rank, members, images, size, precision, str(folder / "meeting"), theirs)
            process = context.Process(target=_take_part, args=arguments, daemon=True)
            process.start()
            theirs.close()  # so that the death of a process is noticed
            self._processes.append(process)
            self._pipes.append(ours)
        self.share = Share(*self._answers()[0])

    def train(self) -> None:
        """One forward and backward pass, the exchange of gradients included."""
        for pipe in self._pipes:
            pipe.send(True)
        self._answers()

    def end(self) -> None:
        """Dismiss the processes."""
        for pipe in self._pipes:
            pipe.send(False)
        for process in self._processes:
            process.join()

    def _answers(self) -> Sequence:
        try:
            return [pipe.recv() for pipe in self._pipes]
        except EOFError as error:
            raise RuntimeError(f"one of {len(self._pipes)} processes ended; it says why above") from error


def _take_part(
    rank: int, members: int, images: int, size: Size, precision: Precision, meeting: str, pipe: Connection
) -> None:
    """What every process does: its part of the batch, whenever it is told to."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=members)
    model = random_model(size, {"kind": "vqa", "num_answers": ANSWERS}).train()
    task = VQATask.without_data(VQAConfig(**nowhere(precision)), model)
    whole = questions_about(Workload(images, 1, model.vision.image_size[0]))
    mine = whole[rank * images // members : (rank + 1) * images // members]
    batch = send_to_device(collate_vqa(mine, pad_id=PAD, vocabulary_size=ANSWERS), CPU)
    together = model if members == 1 else DistributedDataParallel(model)

    def losses(forward: nn.Module) -> Tensor:
        return total(task.losses(forward, batch))

    def train() -> None:
        losses(together).backward()
        model.zero_grad()

    # Not by way of DDP, which waits for a backward pass after every forward pass.
    kept = kept_for_backward(lambda: losses(model), model.parameters())
    operations = FlopCounter()
    with operations.stage("pass"):
        train()
    pipe.send((operations.flops["pass"], kept))
    while pipe.recv():
        train()
        pipe.send(None)
    dist.destroy_process_group()
