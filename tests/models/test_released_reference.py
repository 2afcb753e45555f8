"""Released checkpoints, converted, give what the authors' own code recorded: the cases that are not committed."""

import json
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from vl_absvit.evaluation.retrieval_metrics import retrieval_recalls
from vl_absvit.losses import vqa_loss
from vl_absvit.models import VLAbSViT
from vl_absvit.models.architecture import build_from_architecture
from vl_absvit.models.fusion import FusionOutput
from vl_absvit.models.looks import TwoLooks
from vl_absvit.models.released import Conversion, convert, read_released, rebuild_classifier
from vl_absvit.models.released.imagenet import convert_imagenet
from vl_absvit.models.top_down import feed_back, reconstruction_loss

PRECISIONS = pytest.mark.parametrize(
    ("precision", "dtype", "bound"), [("f32", torch.float32, 1e-5), ("f64", torch.float64, 1e-10)]
)
VAR_LOSS = 0.3  # weight of the reconstruction loss in the recorded runs


def relative(ours: Tensor, expected: Tensor) -> float:
    """Largest difference over the reference's largest value."""
    assert ours.shape == expected.shape
    return ((ours - expected).abs().max() / expected.abs().max()).item()


def assert_close(ours: dict[str, Tensor], expected: dict[str, Tensor], bound: float, prefix: str = "") -> None:
    for name, tensor in ours.items():
        assert relative(tensor.detach(), expected[prefix + name].reshape(tensor.shape)) < bound, name


def read_case(folder, precision: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return tuple(load_file(folder / f"{name}.safetensors") for name in ("inputs", f"outputs_{precision}"))


@PRECISIONS
@pytest.mark.parametrize("case", ["micro", "micro_gap", "micro_layerscale", "micro_noqkvbias"])
def test_classifiers_give_the_authors_outputs(golden, tmp_path, case, precision, dtype, bound):
    folder = golden / "imagenet" / case
    inputs, expected = read_case(folder, precision)
    state = {key: value.to(dtype) for key, value in load_file(folder / "state_dict.safetensors").items()}
    torch.save({"model": state}, tmp_path / "released.pth")
    conversion = convert(read_released(tmp_path / "released.pth"), num_heads=4)
    model = rebuild_classifier(conversion.config, conversion.state)
    images = inputs["image"].to(dtype)
    out, looks = model(images, need_reconstruction=True), model.vision.look_twice(images)
    steered = model.vision.modulate(looks.first.tokens, model.vision.prior.expand(len(images), -1))
    ours = {
        "pass1_tokens": looks.first.tokens,
        "pass2_tokens": looks.second.tokens,
        "pass1_out": torch.stack(looks.first.states[1:]),
        "pass2_in": torch.stack(looks.second.states[:-1]),
        "pass2_out": torch.stack(looks.second.states[1:]),
        "td": torch.stack([signal.tokens for signal in feed_back(model.vision.decoders, steered)]),
        "mask": looks.prior_mask.unsqueeze(-1),
        "logits_pass1": out.first_logits,
        "logits_pass2": out.second_logits,
        "var_loss": 0.1 * out.reconstruction,
    }
    assert_close(ours, expected, bound)


def test_a_plain_classifier_is_the_first_look_of_the_same_trunk(golden):
    folder = golden / "imagenet/micro"
    inputs, expected = read_case(folder, "f32")
    state = load_file(folder / "state_dict.safetensors")
    plain = {key: value for key, value in state.items() if not key.startswith(("decoders.", "prompt"))}
    conversion = convert_imagenet(plain, 4, "plain")
    out = rebuild_classifier(conversion.config, conversion.state)(inputs["image"])
    assert conversion.config["vision"]["top_down"] == "none" and out.second_logits is None
    assert relative(out.first_logits.detach(), expected["logits_pass1"]) < 1e-5


class Read(NamedTuple):
    """What one forward pass of a converted model gives."""

    sentence: Tensor | None
    text: Tensor
    looks: TwoLooks
    seen: Tensor
    fused: FusionOutput

    def outputs(self) -> dict[str, Tensor]:
        """Under the names of the references."""
        layers = {"text_encoder_layer1": self.text, "vit_tokens": self.seen}
        fused = {"text_feats": self.fused.text, "image_feats": self.fused.image, "cls_feats": self.fused.pooled}
        return layers | fused | ({} if self.sentence is None else {"prompt": self.sentence})


def read(model: VLAbSViT, images: Tensor, ids: Tensor, masks: Tensor, image_index: Tensor | None = None) -> Read:
    """All tokens of a forward pass, of which the model itself computes the pooled ones only."""
    is_token = masks.bool()
    texts = model.encode_texts(ids, is_token)
    sentence = None if model.prior is None else model.prior.sentence_vector(texts.tokens, is_token)
    looks = model.vision.look_again(model.vision.look_once(images), texts.prior, image_index)
    seen = (looks.second or looks.first).tokens
    return Read(sentence, texts.tokens, looks, seen, model.fusion(texts.tokens, is_token, seen))


def build(conversion: Conversion, dtype: torch.dtype) -> VLAbSViT:
    model = build_from_architecture(conversion.config, "test").to(dtype)
    model.load_state_dict(conversion.state)
    return model.eval()


def convert_case(folder) -> Conversion:
    return convert(read_released(folder / "checkpoint.ckpt"), num_heads=4, text_heads=4)


def var_loss(model: VLAbSViT, looks: TwoLooks) -> Tensor:
    return VAR_LOSS * reconstruction_loss(model.vision.decoders, looks.second.states)


@PRECISIONS
@pytest.mark.parametrize("case", ["micro_vqa_feedback", "micro_vqa_nofeedback"])
def test_vqa_models_give_the_authors_outputs(golden, case, precision, dtype, bound):
    inputs, expected = read_case(golden / "meter" / case, precision)
    model = build(convert_case(golden / "meter" / case), dtype)
    images, masks = inputs["image"].to(dtype), inputs["text_masks"]
    done = read(model, images, inputs["text_ids"], masks)
    ours = done.outputs() | {"vqa_logits": model.head(done.fused.pooled)}
    if model.prior is not None:
        ours["var_loss"] = var_loss(model, done.looks)
    assert_close(ours, expected, bound, prefix="vqa.")
    whole = model(images, inputs["text_ids"], masks.bool())
    assert_close({"vqa_logits": whole.logits}, expected, bound, prefix="vqa.")
    loss = vqa_loss(whole.logits, expected["vqa.vqa_targets"].float())
    assert relative(loss.detach(), expected["vqa.vqa_loss"][0].to(loss.dtype)) < 1e-5


@pytest.mark.parametrize("length", [5, 8, 16, 24])
def test_a_released_vqa_model_answers_alike_whatever_its_batch_is_padded_to(golden, length):
    """Its sentence vector counts the padding, so the model pads to the released length itself."""
    folder = golden / "meter/micro_vqa_feedback"
    inputs, expected = read_case(folder, "f64")
    model = build(convert_case(folder), torch.float64)
    row = 1  # a question of five tokens
    ids = F.pad(inputs["text_ids"][row : row + 1, :5], (0, length - 5), value=1)
    is_token = (torch.arange(length) < 5).unsqueeze(0)
    logits = model(inputs["image"][row : row + 1].double(), ids, is_token).logits[0].detach()
    assert relative(logits, expected["vqa.vqa_logits"][row]) < 1e-10


def test_a_whole_score_table_and_its_recall_are_the_authors(golden):
    model = build(convert_case(golden / "meter/micro_irtr_feedback"), torch.float32)
    table = load_file(golden / "meter/recall/micro_model.safetensors")
    images, captions = len(table["images"]), len(table["text_ids"])
    image, caption = torch.arange(images).repeat_interleave(captions), torch.arange(captions).repeat(images)
    with torch.no_grad():
        out = model(table["images"], table["text_ids"][caption], table["text_masks"][caption].bool(), image)
    scores = out.logits.rank.view(images, captions)
    assert relative(scores, table["scores"]) < 1e-5
    image_of_caption = torch.arange(images).repeat_interleave(captions // images)
    ours = retrieval_recalls(scores.double().numpy(), image_of_caption.numpy())
    recorded = json.loads((golden / "meter/recall/results.json").read_text())[-1]
    assert list(ours) == recorded["order"]
    assert [value / 100 for value in ours.values()] == pytest.approx(recorded["micro_model"])
