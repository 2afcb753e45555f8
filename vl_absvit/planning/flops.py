"""Floating-point operations as PyTorch counts them: two per multiply-add of products, convolutions and attention."""

import torch
from torch.utils.flop_counter import FlopCounterMode, flop_registry

# PyTorch 2.9 knows no formula for attention on CPUs and counts it as nothing, 2.15 takes that of GPUs.
_ATTENTION = "_scaled_dot_product_flash_attention"
for _pass in ("", "_backward"):
    _on_gpu, _on_cpu = (getattr(torch.ops.aten, f"{_ATTENTION}{kind}{_pass}") for kind in ("", "_for_cpu"))
    flop_registry.setdefault(_on_cpu, flop_registry[_on_gpu])


def flop_counter() -> FlopCounterMode:
    """A context that counts what is computed inside, silently; ``get_total_flops()`` gives the sum."""
    return FlopCounterMode(display=False)
