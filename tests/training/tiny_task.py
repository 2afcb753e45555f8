"""A task of a few numbers that stands in for a real one where only the loop is tested."""

from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState
from torch import nn
from torch.utils.data import Dataset, default_collate

from vl_absvit.config import DataConfig, OptimConfig, RunConfig
from vl_absvit.tasks.vqa import VQAConfig
from vl_absvit.training.loop import make_accelerator, train
from vl_absvit.training.run_dir import open_run

SAMPLES = 36


class TinyDataset(Dataset):
    """Fixed random numbers and their sums."""

    def __init__(self) -> None:
        self.x = torch.randn(SAMPLES, 4, generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return SAMPLES

    def __getitems__(self, indices):
        torch.rand(3)  # a loader that draws from the global generator: nothing may depend on it
        return [(self.x[index], self.x[index].sum().unsqueeze(0)) for index in indices]

    def collate(self, samples):
        return default_collate(samples)

    def set_epoch(self, epoch):
        pass


class TinyTask:
    """Regression on fixed random numbers. ``poison_step``: the optimizer step (from 0) whose first loss is NaN."""

    select_metric = "score"

    def __init__(self, config: VQAConfig, dropout: float = 0.0, poison_step: int | None = None) -> None:
        torch.manual_seed(0)
        self.config, self.poison_step, self.seen = config, poison_step, 0
        self.model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Dropout(dropout), nn.Linear(8, 1))
        self.train_set = TinyDataset()

    def get_ready(self):
        pass

    def look_ahead(self, batches, seeds):
        return [None] * len(batches)

    def losses(self, model, batch, ahead=None):
        x, y = batch
        prediction = model(x)
        terms = {"fit": F.mse_loss(prediction, y), "size": 0.1 * prediction.square().mean()}
        if self.seen == self.poison_step:
            terms["size"] = terms["size"] * float("nan")
        self.seen += 1
        return terms

    @torch.no_grad()
    def evaluate(self, model):
        x = self.train_set.x
        return {"score": -F.mse_loss(model(x), x.sum(dim=1, keepdim=True)).item()}

    def lr_of(self):
        return {"0": 1e-2, "1": 1e-2, "3": 5e-2}

    def save(self, folder):
        safetensors.torch.save_model(self.model, str(folder / "model.safetensors"))

    def check_saved(self, folder):
        pass


def tiny_config(output: Path, *, micro_batch_size: int | None = None, resume: bool = False, **run) -> VQAConfig:
    """Four epochs of three steps of twelve samples, if not said otherwise with an evaluation after every step."""
    usual = dict(precision="fp32", trackers=(), log_every=1, evaluations_per_epoch=3)
    return VQAConfig(
        data=DataConfig(root="unused", num_workers=0),
        run=RunConfig(output=str(output), resume=resume, **(usual | run)),
        optim=OptimConfig(batch_size=12, micro_batch_size=micro_batch_size, epochs=4),
    )


def run_tiny(config: VQAConfig, **task) -> dict[str, torch.Tensor]:
    """Train the tiny task as a script would, and return its final parameters."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(config.run)
    made = TinyTask(config, **task)
    train(config, made, accelerator, open_run(config))
    return {name: parameter.detach().cpu() for name, parameter in made.model.named_parameters()}
