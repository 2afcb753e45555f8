"""Copies from host memory to a device."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to a device without waiting for the device's queued work."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()  # the host waits for copies from other memory
    return tensor.to(device, non_blocking=True)
