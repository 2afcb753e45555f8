"""A released pretraining checkpoint, converted, goes on being pretrained, from the losses that the authors recorded."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from transformers import RobertaConfig

from tests.run_folders import metrics
from tests.run_script import run_script
from tests.tiny_pairs import tiny_pairs_config
from tests.tiny_released import tiny_tokenizer
from tests.tiny_vqa import tiny_vision
from vl_absvit.config import FusionConfig, PairLossConfig, PriorConfig, TextConfig
from vl_absvit.data.pairs import FALSE_IMAGE, TRUE, PairBatch
from vl_absvit.tasks.pairs import PairsTask
from vl_absvit.tasks.retrieval_pairs import Found
from vl_absvit.tasks.vl_checkpoint import datasets_trained_on
from vl_absvit.training.loop import make_accelerator, train
from vl_absvit.training.run_dir import open_run

WORDS, LENGTH = 100, 12


@pytest.fixture
def recorded(golden, tmp_path):
    """The recorded inputs and losses, the converted checkpoint, and the folder of its text encoder."""
    folder = golden / "meter/micro_mlm_itm_feedback"
    if not folder.is_dir():
        pytest.skip("no reference outputs of pretraining")
    tokenizer = tiny_tokenizer(WORDS - 1)
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    RobertaConfig(
        vocab_size=WORDS, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=40, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0,
        eos_token_id=2,
    ).save_pretrained(tmp_path / "text")  # fmt: skip
    tokenizer.save_pretrained(tmp_path / "text")
    options = ("--tokenizer", tmp_path / "text", "--num-heads", 4, "--text-heads", 4)
    converted = tmp_path / "converted"
    assert run_script(
        "scripts/convert_released.py", "--checkpoint", folder / "checkpoint.ckpt", *options, "--output", converted
    ) == 0  # fmt: skip
    inputs, outputs = (load_file(folder / f"{name}.safetensors") for name in ("inputs", "outputs_f64"))
    return SimpleNamespace(inputs=inputs, outputs=outputs, converted=converted, text=tmp_path / "text")


def config_of(recorded, world, output, **loss):
    """A run that starts from the converted checkpoint and computes as the release does."""
    vision = tiny_vision(
        model="absvit_tiny_patch8_224", num_heads=4, modulation="reweight_project", gain=5.0, mask="cosine"
    )
    config = tiny_pairs_config(
        world, output, vision=vision, fusion=FusionConfig(width=32, num_layers=2, num_heads=4, mlp_ratio=2),
        prior=PriorConfig(sentence="eos", pool="cls"), from_checkpoint=str(recorded.converted),
        loss=PairLossConfig(**loss),
    )  # fmt: skip
    return replace(config, text=TextConfig(model=str(recorded.text), max_tokens=LENGTH, dropout=0.0))


def recorded_batch(recorded) -> tuple[PairBatch, torch.Tensor]:
    """The recorded captions with their hidden words, then as they are shown in matching; and whose image is false.

    The false images stand behind the true ones.
    """
    inputs, matches = recorded.inputs, recorded.outputs["itm.itm_labels"].bool()
    captions = len(matches)
    labels, rows, own = inputs["text_labels_mlm"].flatten(), torch.arange(captions), np.arange(captions)
    positions = (labels != -100).nonzero().squeeze(1)
    false = (~matches).nonzero().squeeze(1)
    return PairBatch(
        images=torch.cat([inputs["image"], inputs["false_image_0"]]).float(), image_index=rows,
        image_ids=torch.arange(2 * captions), token_ids=inputs["text_ids"], is_token=inputs["text_masks"].bool(),
        hidden_ids=inputs["text_ids_mlm"], positions=positions, answers=labels[positions], words=rows,
        false_index=rows[:0], other_ids=inputs["text_ids"][:0], is_other=inputs["text_masks"][:0].bool(),
        caption_ids=own, captioned_ids=own, wordings=own, shown=np.where(matches.numpy(), TRUE, FALSE_IMAGE),
        sources=0 * own, texts=own, said=[own[:0]] * captions,
    ), captions + false  # fmt: skip


def test_the_first_step_has_the_authors_losses(recorded, world, tmp_path):
    task = PairsTask(config_of(recorded, world, tmp_path / "run", prior=0.0, reconstruction=0.0))
    batch, false = recorded_batch(recorded)
    task.draw_false = lambda model, texts, first, batch: Found(first, None, false)
    losses = task.losses(task.model.eval(), batch)
    expected = {name: recorded.outputs[f"{name}.{name}_loss"].item() for name in ("mlm", "itm")}
    assert 0 < len(false) < len(batch.caption_ids) and len(batch.answers) > 1
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=2e-6)


def test_a_converted_checkpoint_goes_on_being_pretrained_with_all_losses(recorded, world, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    AcceleratorState._reset_state(reset_partial_state=True)
    config = config_of(recorded, world, tmp_path / "run")
    task, accelerator = PairsTask(config), make_accelerator(config.run)
    assert {"coco", "visual_genome", "sbu_captions", "conceptual_captions"} == set(datasets_trained_on(task.training))
    train(config, task, accelerator, open_run(config))
    lines = metrics(tmp_path / "run")
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert {"mlm", "itm", "prior", "reconstruction"} < lines[0].keys()
    assert "select/itm_auc" in lines[-1]
