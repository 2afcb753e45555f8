"""Make the files of this folder from the full set of reference outputs; README.md says what is chosen and why.

python tests/references/make_selection.py FULL_SET
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).parent
IMAGENET = ("pass1_tokens", "pass2_tokens", "td", "mask", "logits_pass1", "logits_pass2", "var_loss", "train_loss")
TEXTS = [f"false_text_{number}_{part}" for number in range(3) for part in ("ids", "masks")]
INPUTS = ["image", "text_ids", "text_masks", *TEXTS]
MATCHING_INPUTS = ["false_image_0", "text_ids_mlm", "text_labels_mlm"]
OUTPUTS = {
    "vqa": ("prompt", "vit_tokens", "text_feats", "image_feats", "cls_feats", "vqa_logits", "vqa_targets", "vqa_loss",
            "var_loss"),
    "irtr": ("prompt", "cls_feats", "score", "irtr_loss", "var_loss"),
    "itm": ("cls_feats", "itm_logits", "itm_labels", "itm_loss", "var_loss"),
    "mlm": ("mlm_logits", "mlm_loss", "var_loss"),
}  # fmt: skip
FIRST_LAYERS = (
    "vit_model.patch_embed", "vit_model.cls_token", "vit_model.blocks.0.attn", "vit_model.decoders",
    "vit_model.prompt_decoder", "text_transformer.encoder.layer.0.attention", "cross_modal_text_transform",
    "cross_modal_image_transform", "cross_modal_text_layers.0.crossattention",
    "cross_modal_image_layers.0.crossattention", "token_type_embeddings", "vqa_classifier",
)  # fmt: skip
"""Parts of the model that the gradients of all later parts pass through on their way."""
TRUNKS = ("rvt/top_down_two_stage", "fan/top_down", "vars/vars_d_block")
TRUNK_OUTPUTS = (
    "pass2_tokens", "td.0", "mask", "logits_pass1", "logits_pass2", "var_loss", "train_loss", "grad.input_cells",
    "u_steps", "output", "grad.input",
)  # fmt: skip
SCHEDULE, RECALL = "poly1_warm0.1_37", (2, 3)


def main(full: Path) -> None:
    meter = full / "meter"
    save("imagenet", imagenet(full / "imagenet/micro"))
    save("vision_language", vision_language(meter))
    save("training", training(meter / "train_vqa"))
    save("trunks", {name: value for case in TRUNKS for name, value in trunk(full, case).items()})
    tables = {case: load_file(meter / f"recall/case{case}.safetensors") for case in RECALL}
    save("recall", {f"{case}.{name}": table[name] for case, table in tables.items() for name in ("scores", "text_img")})
    numbers = {
        "trunks": {case: trunk_options(full / case) for case in TRUNKS},
        "training": trace(json.loads((meter / "train_vqa/trace_f64.json").read_text())),
        "schedule": json.loads((meter / "schedules.json").read_text())[SCHEDULE],
        "recall": {case: json.loads((meter / "recall/results.json").read_text())[case] for case in RECALL},
    }
    numbers["schedule"]["config"] = {
        key: value for key, value in numbers["schedule"]["config"].items() if isinstance(value, int | float)
    }
    (HERE / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n")


def save(name: str, tensors: dict[str, np.ndarray]) -> None:
    save_file({key: np.ascontiguousarray(tensors[key]) for key in sorted(tensors)}, HERE / f"{name}.safetensors")


def imagenet(case: Path) -> dict[str, np.ndarray]:
    """The classifier: weights, inputs, what each step gives, and the gradient of every parameter."""
    outputs = load_file(case / "outputs_f64.safetensors")
    chosen = {key: value for key, value in outputs.items() if key in IMAGENET or key.startswith("grad.")}
    return (
        prefixed("state", load_file(case / "state_dict.safetensors"))
        | prefixed("input", load_file(case / "inputs.safetensors"))
        | prefixed("output", chosen)
    )


def trunk(full: Path, case: str) -> dict[str, np.ndarray]:
    """A trunk or a block: weights, inputs, outputs, and the gradient of the input, which all others enter."""
    state, inputs, outputs = (
        load_file(full / case / f"{name}.safetensors") for name in ("state_dict", "inputs", "outputs_f64")
    )
    chosen = {key: value for key, value in outputs.items() if key in TRUNK_OUTPUTS}
    parts = prefixed("state", state) | prefixed("input", inputs) | prefixed("output", chosen)
    return prefixed(case, parts)


def trunk_options(case: Path) -> dict:
    """Sizes and options of a case, without what was measured on it."""
    meta = json.loads((case / "meta.json").read_text())
    return {key: value for key, value in meta.items() if key not in ("names_shapes", "env") and "_vs_" not in key}


def vision_language(meter: Path) -> dict[str, np.ndarray]:
    """The whole models of three tasks: they share all weights but their heads, images and texts."""
    found: dict[str, np.ndarray] = {}
    for case, objectives in (
        ("micro_vqa_feedback", ["vqa"]),
        ("micro_irtr_feedback", ["irtr", "itm"]),
        ("micro_mlm_itm_feedback", ["mlm"]),
    ):
        state, inputs, outputs = (
            load_file(meter / case / f"{name}.safetensors") for name in ("state_dict", "inputs", "outputs_f64")
        )
        wanted = {key: inputs[key] for key in [*INPUTS, *MATCHING_INPUTS] if key in inputs}
        new = prefixed("state", state) | prefixed("input", wanted)
        for key in found.keys() & new.keys():
            assert np.array_equal(found[key], new[key]), f"{case} has another {key}"
        found |= new
        for objective in objectives:
            found |= prefixed(
                "output", {f"{objective}.{name}": outputs[f"{objective}.{name}"] for name in OUTPUTS[objective]}
            )
    return found


def training(case: Path) -> dict[str, np.ndarray]:
    """The batch of every step, and gradients of the first; the run begins with the weights of ``vision_language``."""
    found = {}
    for step in range(6):
        inputs = load_file(case / f"batches/step{step}.safetensors")
        labels = json.loads((case / f"batches/step{step}.json").read_text())
        targets = np.zeros((len(labels["text"]), 17), dtype=np.float32)
        for row, (answers, scores) in enumerate(zip(labels["vqa_labels"], labels["vqa_scores"], strict=True)):
            targets[row, answers] = scores
        batch = {name: inputs[name] for name in ("image", "text_ids", "text_masks")} | {"targets": targets}
        found |= prefixed(f"batch.{step}", batch)
    gradients = load_file(case / "grads_step0_f64.safetensors")
    return found | prefixed("grad", {key: value for key, value in gradients.items() if key.startswith(FIRST_LAYERS)})


def trace(recorded: dict) -> dict:
    """Losses and rates of every step, and which parameters have which rate and decay."""
    groups = [
        {key: group[key] for key in ("initial_lr", "weight_decay", "betas", "eps", "names")}
        for group in recorded["optimizer"]["groups"]
    ]
    steps = [{key: step[key] for key in ("losses", "lrs")} for step in recorded["trace"]]
    return {
        "max_steps": recorded["max_steps"],
        "warmup": recorded["config"]["warmup_steps"],
        "groups": groups,
        "steps": steps,
    }


def prefixed(prefix: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
