"""What of a data set this process evaluates."""

from torch.utils.data import DataLoader

from vl_absvit.data.loaders import BatchedDataset, evaluation_loader
from vl_absvit.distributed import rank, world_size


def own_share(dataset: BatchedDataset, *, batch_size: int, num_workers: int) -> DataLoader:
    """This process's part of all samples, in order; each sample is in the part of one process.

    Args:
        batch_size: samples per process and forward pass.
    """
    return evaluation_loader(
        dataset, batch_size=batch_size, rank=rank(), world_size=world_size(), num_workers=num_workers
    )
