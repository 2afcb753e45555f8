"""Key maps: complete in both directions, for every head, and nothing but released models passes."""

import pytest
import torch
import torch.nn.functional as F

from tests.tiny_released import FUSION_WIDTH, UNUSED, released_classifier, released_config, released_state
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models.architecture import build_from_architecture
from vl_absvit.models.heads import NLVR2Head, SNLIHead
from vl_absvit.models.released import rebuild_classifier
from vl_absvit.models.released.imagenet import convert_imagenet
from vl_absvit.models.released.vision_language import convert_vision_language
from vl_absvit.models.released.vision_language_keys import KEYS
from vl_absvit.models.top_down import Steered, feed_back

pytestmark = pytest.mark.slow  # every tensor of every kind of checkpoint

KINDS = ["vqa", "matching", "pretraining", "nlvr2", "snli"]
HEADS = {  # released names of METER's heads
    "vqa": [f"vqa_classifier.{layer}.{name}" for layer in (0, 1, 3) for name in ("weight", "bias")],
    "matching": ["itm_score.fc.weight", "itm_score.fc.bias", "rank_output.weight", "rank_output.bias"],
    "pretraining": [
        "itm_score.fc.weight", "itm_score.fc.bias", "mlm_score.bias", "mlm_score.decoder.weight",
        "mlm_score.transform.dense.weight", "mlm_score.transform.dense.bias",
        "mlm_score.transform.LayerNorm.weight", "mlm_score.transform.LayerNorm.bias",
    ],
    "nlvr2": [f"nlvr2_classifier.{layer}.{name}" for layer in (0, 1, 3) for name in ("weight", "bias")],
    "snli": [f"snli_classifier.{layer}.{name}" for layer in (0, 1, 3) for name in ("weight", "bias")],
}  # fmt: skip


def convert(state, config):
    return convert_vision_language(state, config, num_heads=4, text_heads=4, location="tiny.ckpt")


@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_released_key_is_used_or_ignored_and_every_key_of_ours_filled(kind, feedback):
    model, state = released_state(kind, feedback)
    conversion = convert(state, released_config(kind, feedback))
    assert conversion.kind == kind
    by_status = {
        status: [e.key for e in conversion.entries if e.status == status] for status in ("loaded", "ignored", "new")
    }
    assert sorted(by_status["loaded"] + by_status["ignored"]) == sorted(state)
    assert sorted(by_status["ignored"]) == sorted(UNUSED)
    prior = ["prior.project.bias", "prior.project.weight"] if kind == "matching" and not feedback else []
    assert sorted(by_status["new"]) == prior
    assert {key for key in state if not key.startswith(("vit_model", "text_tr", "cross_modal", "token_type"))} == set(
        HEADS[kind]
    )
    rebuilt = build_from_architecture(conversion.config, "test")
    rebuilt.load_state_dict(conversion.state)  # strict
    own = model.state_dict()
    assert set(conversion.state) - set(own) == set(by_status["new"])
    for key, value in own.items():
        torch.testing.assert_close(conversion.state[key], value, rtol=0, atol=0, msg=key)
    assert sum(e.parameters for e in conversion.entries) == sum(value.numel() for value in state.values()) + sum(
        conversion.state[key].numel() for key in by_status["new"]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_names_map_there_and_back(kind):
    _, state = released_state(kind)
    used = [key for key in state if key not in UNUSED]
    assert [KEYS[kind].released(KEYS[kind].ours(key)) for key in used] == used
    assert len({KEYS[kind].ours(key) for key in used}) == len(used)


def test_the_new_prior_is_the_same_in_every_conversion_and_draws_no_global_random_number():
    _, state = released_state("matching", feedback=False)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = convert(state, released_config("matching", False)).state["prior.project.weight"]
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(convert(state, released_config("matching", False)).state["prior.project.weight"], first)


def test_second_images_of_nlvr2_have_the_third_token_type():
    _, state = released_state("nlvr2")
    conversion = convert(state, released_config("nlvr2"))
    types = state["token_type_embeddings.weight"]
    assert types.shape == (3, FUSION_WIDTH)
    assert torch.equal(conversion.state["fusion.token_types.weight"], types[:2])
    assert torch.equal(conversion.state["head.second_image_type"], types[2])
    with pytest.raises(InputError, match="expected token types of text and two images, got "):
        convert(state | {"token_type_embeddings.weight": types[:2]}, released_config("nlvr2"))


def test_nlvr2_and_snli_heads_by_their_formulas():
    pooled, second = torch.randn(3, 8), torch.randn(3, 8)
    for head, features in ((SNLIHead(width=4), [pooled]), (NLVR2Head(width=4), [pooled, second])):
        layers = head if isinstance(head, SNLIHead) else head.classifier
        hidden = F.linear(torch.cat(features, dim=1), layers[0].weight, layers[0].bias)
        hidden = F.gelu(F.layer_norm(hidden, (8,), layers[1].weight, layers[1].bias, eps=1e-5))
        torch.testing.assert_close(head(torch.cat(features)), F.linear(hidden, layers[3].weight, layers[3].bias))
    assert SNLIHead(width=4)(pooled).shape == (3, 3) and NLVR2Head(width=4)(torch.cat([pooled, second])).shape == (3, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_lacks_a_key_or_has_one_more_is_refused(kind):
    _, state = released_state(kind)
    config = released_config(kind)
    for key in (HEADS[kind][0], "vit_model.norm.bias", "cross_modal_text_layers.1.output.dense.weight"):
        with pytest.raises(InputError, match="tiny.ckpt: "):
            convert({name: value for name, value in state.items() if name != key}, config)
    with pytest.raises(
        InputError, match="tiny.ckpt: 1 of .* keys are no part of the released models, e.g. vit_model.extra"
    ):
        convert(state | {"vit_model.extra": torch.zeros(1)}, config)


def without(state, prefix):
    return {key: value for key, value in state.items() if not key.startswith(prefix)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "vqa_classifier"), "expected the heads of one task .* got none"),
        (lambda s: s | {"snli_classifier.0.weight": torch.zeros(1)}, "got snli_classifier, vqa_classifier"),
        (lambda s: without(s, "vit_model.patch_embed"), "no ViT of the release in it"),
        (lambda s: without(s, "vit_model.blocks.0"), r"1 layers vision.blocks.\* with gaps"),
        (lambda s: s | {"vit_model.blocks.9999.norm1.bias": torch.zeros(1)}, r"3 layers vision.blocks.\* with gaps"),
        (lambda s: s | {f"vit_model.blocks.{'9' * 5000}.norm1.bias": torch.zeros(1)}, "no part of the released models"),
        (lambda s: without(s, "text_transformer.encoder"), "it has no matrix text_transformer.encoder.layer.0"),
        (lambda s: without(s, "text_transformer"), "it has no matrix text_transformer.embeddings.word_embeddings"),
        (lambda s: s | {"vit_model.pos_embed": torch.zeros(1, 18, 16)}, "a square grid, got 18"),
        (lambda s: s | {"vit_model.norm.weight": torch.zeros(17)}, r"the shape \(16,\) for vision.norm.weight, got"),
        (lambda s: s | {"vit_model.patch_embed.proj.weight": torch.zeros(16, 1, 8, 8)}, "square RGB patches"),
    ],
)  # fmt: skip
def test_a_state_of_another_form_is_one_line(change, message):
    with pytest.raises(InputError, match=message):
        convert(change(released_state("vqa")[1]), released_config("vqa"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 224}, "says image_size = 224, its weights say 32"),
        ({"patch_size": 16}, "says patch_size = 16, its weights say 8"),
        ({"hidden_size": 768}, "says hidden_size = 768, its weights say 32"),
        ({"num_top_layer": 6}, "says num_top_layer = 6, its weights say 2"),
        ({"feedback": False}, "says feedback = False, its weights say True"),
        ({"max_text_len": 50}, "texts of 50 tokens, but the text encoder has 38 positions"),
        ({"num_heads": 5}, "its sizes do not fit together: fusion.width 32 does not divide into 5 heads"),
        ({"num_heads": None}, "its num_heads is None"),
        ({"num_heads": True}, "its num_heads is True"),
        ({"is_clip": True}, "its visual encoder is CLIP's"),
        ({"is_swin": True}, "its visual encoder is a Swin transformer"),
        ({"tokenizer": "bert-base-uncased"}, "only RoBERTa fits"),
        ({"val_transform_keys": ["vit"]}, r"expected the image transform clip or imagenet, got \['vit'\]"),
    ],
)
def test_a_configuration_that_does_not_fit_its_weights_is_one_line(change, message):
    with pytest.raises(InputError, match=message):
        convert(released_state("vqa")[1], released_config("vqa", **change))


def test_heads_are_asked_for_where_the_width_does_not_tell():
    _, state = released_state("vqa")
    with pytest.raises(ConfigError, match="--num-heads is needed: .* the width 16 of the visual encoder"):
        convert_vision_language(state, released_config("vqa"), None, 4, "tiny.ckpt")
    with pytest.raises(ConfigError, match="--text-heads is needed: .* the width 24 of the text encoder"):
        convert_vision_language(state, released_config("vqa"), 4, None, "tiny.ckpt")
    with pytest.raises(ConfigError, match="--num-heads: the width 16 of the visual encoder does not divide into 5"):
        convert_vision_language(state, released_config("vqa"), 5, 4, "tiny.ckpt")


@pytest.mark.parametrize(("size", "width", "heads"), [("tiny", 192, 3), ("small", 384, 6), ("base", 768, 12)])
@pytest.mark.parametrize("patch", [16, 8])
def test_standard_sizes_tell_their_heads_and_names(size, width, heads, patch):
    options = {"embed_dim": width, "num_heads": heads, "depth": 1, "patch_size": patch, "img_size": 4 * patch}
    _, state = released_classifier(**options)
    vision = convert_imagenet(state, None, "test").config["vision"]
    assert vision["model"] == f"absvit_{size}_patch{patch}_224"
    assert (vision["num_heads"], vision["image_size"], vision["patch_size"]) == (heads, 4 * patch, patch)


@pytest.mark.parametrize(
    "options",
    [{}, {"global_pool": "avg"}, {"init_values": 0.3}, {"qkv_bias": False}, {"init_values": 0.3, "qkv_bias": False}],
)
@pytest.mark.parametrize("feedback", [True, False])
def test_converted_classifiers_are_the_same_function(feedback, options):
    model, state = released_classifier(feedback, **options)
    conversion = convert_imagenet(state, 4, "test")
    rebuilt = rebuild_classifier(conversion.config, conversion.state)
    images = torch.randn(2, 3, 32, 32)
    out = rebuilt(images)
    last = out.first_logits if out.second_logits is None else out.second_logits
    torch.testing.assert_close(last, model(images), rtol=1e-4, atol=1e-5)
    used = {e.key for e in conversion.entries if e.status == "loaded"}
    assert used == set(state) and len(used) == len(state)
    new = {e.key for e in conversion.entries if e.status == "new"}
    without_bias = options.get("qkv_bias") is False
    assert new == ({f"vision.blocks.{n}.attn.qkv.bias" for n in range(2)} if without_bias else set())
    assert not any(key.endswith("gamma") for key in conversion.state)


@pytest.mark.parametrize("has_transform", [True, False])
@torch.no_grad()
def test_a_file_of_toast_is_the_function_with_its_matrix_before_the_feedback(has_transform):
    model, state = released_classifier()
    transform = torch.eye(16)
    if has_transform:
        transform = torch.randn(16, 16)
        state["top_down_transform"] = transform
    images = torch.randn(2, 3, 32, 32)
    first = model.look_once(images)
    mask = torch.cosine_similarity(first.tokens, model.prior, dim=-1).clamp(0, 1)
    steered = Steered(mask, torch.ones(1, 1, 1), (mask.unsqueeze(-1) * first.tokens) @ transform)
    second = model.look(first.start, feed_back(model.feedback_decoders, steered))
    conversion = convert_imagenet(state, 4, "test")
    out = rebuild_classifier(conversion.config, conversion.state)(images)
    torch.testing.assert_close(out.second_logits, model.forward_head(second.tokens), rtol=1e-4, atol=1e-5)
    assert {entry.key for entry in conversion.entries if entry.status == "loaded"} == set(state)
    names = [option.name for option in conversion.options]
    assert ("top_down_transform" in names) == has_transform


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {f"enc.{name}": value for name, value in s.items()}, "test: a model that TOAST finetuned"),
        (lambda s: {"downsample_layers.0.0.weight": torch.ones(4, 3, 4, 4)}, "test: a ConvNeXt, whose feedback TOAST"),
        (
            lambda s: without(s, "head") | {"top_down_transform": torch.eye(16)},
            r"no matrix head.weight \(TOAST's encoder alone\?\)",
        ),
        (
            lambda s: s | {"top_down_transform": torch.eye(8)},
            r"top_down_transform \(8, 8\) belongs before decoders.1.linear.weight and has its width, got \(16, 16\)",
        ),
        (
            lambda s: without(s, "decoders") | {"top_down_transform": torch.eye(16)},
            "decoders.0.linear.weight.* got none",
        ),
    ],
)
def test_what_of_toast_has_no_form_here_is_one_line(change, message):
    with pytest.raises(InputError, match=message):
        convert_imagenet(change(released_classifier()[1]), 4, "test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "head"), "expected a classifier, but it has no matrix head.weight"),
        (lambda s: without(s, "prompt"), "it has no vision.prior"),
        (lambda s: without(s, "norm."), "it has no vision.norm.bias"),
        (
            lambda s: s | {"fc_norm.weight": torch.ones(16)},
            "fc_norm.weight and another key are both vision.norm.weight",
        ),
        (lambda s: s | {"head_dist.weight": torch.ones(1)}, "1 of .* e.g. head_dist.weight"),
        (lambda s: s | {"blocks.0.mlp.fc1.weight": torch.ones(32, 16)}, r"the shape \(64, 16\) for .*mlp.fc1.weight"),
    ],
)
def test_a_classifier_of_another_form_is_one_line(change, message):
    with pytest.raises(InputError, match=message):
        convert_imagenet(change(released_classifier()[1]), 4, "test")


SIZES_ARE_READ_FROM = (
    "vit_model.patch_embed.proj.weight", "vit_model.pos_embed", "vit_model.cls_token", "vit_model.blocks.1.norm1.bias",
    "text_transformer.embeddings.word_embeddings.weight", "text_transformer.embeddings.position_embeddings.weight",
    "text_transformer.encoder.layer.0.intermediate.dense.weight", "cross_modal_text_transform.weight",
    "token_type_embeddings.weight",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["vqa", "nlvr2", "classifier"])
def test_no_tensor_can_be_replaced_by_one_of_another_form(kind):
    _, state = released_classifier(init_values=0.1) if kind == "classifier" else released_state(kind)
    others = [torch.zeros(shape) for shape in ((), (5,), (1, 3, 0, 0, 2))]
    for key in state if kind == "classifier" else (*SIZES_ARE_READ_FROM, *HEADS[kind]):
        for other in (*others, torch.zeros(state[key].shape, dtype=torch.long)):
            damaged = state | {key: other}
            with pytest.raises(InputError, match=r"^(tiny.ckpt|test): "):
                if kind == "classifier":
                    convert_imagenet(damaged, 4, "test")
                else:
                    convert(damaged, released_config(kind))


def test_options_that_results_depend_on_are_said():
    said = {o.name: o.value for o in convert(released_state("vqa")[1], released_config("vqa")).options}
    expected = {"vision.modulation": "reweight_project", "vision.gain": 5.0, "sentence": "padded_mean"}
    assert said.items() >= (expected | {"image_statistics": "clip", "max_tokens": 12, "image_size": 32}).items()
    retrieval = convert(released_state("matching")[1], released_config("matching", max_text_len=10))
    said = {o.name: o.value for o in retrieval.options}
    assert said.items() >= {"sentence": "eos", "shortlist": "all", "max_tokens": 10}.items()
    assert retrieval.preprocessing["max_tokens"] == 10
    _, gap = released_classifier(global_pool="avg", init_values=0.1, qkv_bias=False)
    said = {o.name: o.value for o in convert_imagenet(gap, 4, "test").options}
    expected = {"pooling": "avg_then_norm", "vision.modulation": "reweight", "vision.gain": 1.0, "loss": "both looks"}
    assert said.items() >= (expected | {"LayerScale": "multiplied in", "attn.qkv.bias": "zeros"}).items()


def test_the_history_names_every_data_set_and_what_came_before():
    config = released_config("pretraining", vit_path="/theirs/absvit_base.pth", load_path="/theirs/earlier.ckpt")
    link = convert(released_state("pretraining")[1], config).training
    assert link["vision_weights"] == "absvit_base.pth" and link["text_model"] == "roberta-base"
    names = []
    while link is not None:
        names.append(link["dataset"])
        link = link["start"]
    assert names == ["conceptual_captions", "sbu_captions", "visual_genome", "coco", "unknown, earlier.ckpt"]
    vqa = convert(released_state("vqa")[1], released_config("vqa")).training
    assert (vqa["dataset"], vqa["splits"], vqa["selected_on"], vqa["start"]) == ("vqav2", ["train", "val"], "val", None)
