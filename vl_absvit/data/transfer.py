"""From host memory to a device."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy of a tensor of the host, which does not wait for what the device is doing."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()  # only from there can it be fetched while the host goes on
    return tensor.to(device, non_blocking=True)
