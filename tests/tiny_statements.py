"""Tiny NLVR2 and SNLI-VE, prepared, and configs to train on them within a test."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tests.prepare import raw_nlvr2, raw_snli_ve
from tests.tiny_vqa import tiny_vqa_config
from vl_absvit.config import NLVR2Config, OptimConfig, SNLIVEConfig, StatementConfig

CONFIGS: dict[str, type[StatementConfig]] = {"nlvr2": NLVR2Config, "snli_ve": SNLIVEConfig}


@functools.cache
def prepared(kind: str, base: Path) -> Path:
    """A prepared folder of a kind, with pictures of noise; made once per ``base``."""
    raw, output = base / f"raw_{kind}", base / kind
    write = raw_nlvr2.write_small_nlvr2 if kind == "nlvr2" else raw_snli_ve.write_small_snli_ve
    write(raw)
    for number, file in enumerate(sorted([*raw.rglob("*.png"), *raw.rglob("*.jpg")])):
        noise = np.random.default_rng(number).integers(256, size=(24, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file, format="PNG")
    (raw_nlvr2 if kind == "nlvr2" else raw_snli_ve).prepare(raw, output)
    return output


def tiny_statement_config(kind: str, world: Path, base: Path, output: Path, **parts) -> StatementConfig:
    """Two epochs of two steps (NLVR2) or of one (SNLI-VE) of four statements, with the tiny world's tokenizer."""
    vqa = tiny_vqa_config(world, output, micro_batch_size=parts.pop("micro_batch_size", None))
    data = replace(vqa.data, root=str(prepared(kind, base)), select_split="dev")
    optim = OptimConfig(**(vars(vqa.optim) | {"batch_size": 4, "epochs": 2}))
    return CONFIGS[kind](
        data=data, run=vqa.run, vision=parts.pop("vision", vqa.vision), text=vqa.text, fusion=vqa.fusion, optim=optim,
        **parts,
    )  # fmt: skip
