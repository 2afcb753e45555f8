"""Maps of a whole model: each by its definition, from the forward pass of training, and alone as in company."""

import pytest
import torch
import torch.nn.functional as F

from tests.tiny_vqa import tiny_retrieval_config, tiny_vision, tiny_vqa_config
from vl_absvit.data.captions import CaptionDataset
from vl_absvit.errors import ConfigError
from vl_absvit.looking.explanation import MAPS, OF_SECOND_LOOK, MapChoice, choose_maps, explain, usual_block
from vl_absvit.models.architecture import build_vision
from vl_absvit.tasks.base import epoch_batches
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vqa import VQATask

SIDE = 2  # patches
CHOICE = MapChoice(MAPS, block=0)


def make_task(world, tmp_path, task=VQATask, config=tiny_vqa_config, **vision):
    """A model in double precision whose every parameter matters."""
    task = task(config(world, tmp_path, vision=tiny_vision(depth=3, **vision)))
    for parameter in task.model.double().eval().parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return task


@pytest.fixture
def task(world, tmp_path):
    return make_task(world, tmp_path)


@pytest.fixture
def batch(task):
    batch = next(iter(epoch_batches(task.config, task.train_set, 0, 0, 0, 1)))
    assert len(batch.images) < len(batch.token_ids)  # some questions share an image
    return batch._replace(images=batch.images.double())


@pytest.fixture
def out(task, batch):
    """The forward pass of training."""
    return task.model(batch.images, batch.token_ids, batch.is_token, batch.image_index)


@pytest.fixture
def captions(world, tmp_path):
    """A retrieval model, and captions with their own images."""
    task = make_task(world, tmp_path, RetrievalTask, tiny_retrieval_config)
    preprocessing = task.preprocessing
    data = CaptionDataset(
        task.config.data.root, ["val"], task.tokenizer, preprocessing.max_tokens, preprocessing.transform(), negatives=0
    )
    batch = data.collate(data.__getitems__(range(6)))
    assert len(batch.images) < len(batch.token_ids) == 6
    return task.model, batch._replace(images=batch.images.double())


def grid(per_patch):
    return per_patch.reshape(-1, SIDE, SIDE)


def test_the_answers_are_those_of_the_forward_pass_of_training(task, batch, out):
    explained = explain(task.model, batch, CHOICE)
    torch.testing.assert_close(explained.logits, out.logits, rtol=1e-6, atol=1e-6)
    assert list(explained.maps) == list(MAPS)
    assert all(each.shape == (len(batch.token_ids), SIDE, SIDE) for each in explained.maps.values())
    assert not any(each.requires_grad for each in (explained.logits, *explained.maps.values()))


def test_maps_of_tokens_are_lengths_and_cosines_of_the_two_looks(task, batch, out):
    maps, first = explain(task.model, batch, CHOICE).maps, out.looks.first
    index = batch.image_index
    cosine = torch.cosine_similarity(first.tokens[index, 1:], out.prior.unsqueeze(1), dim=-1).clamp(0, 1)
    assert (cosine > 0).any()
    torch.testing.assert_close(maps["prior_mask"], grid(cosine))
    bottom_up = grid((first.states[1][index, 1:] ** 2).sum(dim=-1) ** 0.5)
    top_down = grid((out.looks.second.states[1][:, 1:] ** 2).sum(dim=-1) ** 0.5)
    torch.testing.assert_close(maps["bottom_up"], bottom_up)
    torch.testing.assert_close(maps["top_down"], top_down)
    torch.testing.assert_close(maps["difference"], top_down - bottom_up)
    assert not torch.allclose(top_down, bottom_up)


def test_a_block_below_the_second_look_shows_what_it_saw_at_first(world, tmp_path):
    task = make_task(world, tmp_path, looks_again_from=1)
    batch = next(iter(epoch_batches(task.config, task.train_set, 0, 0, 0, 1)))
    batch = batch._replace(images=batch.images.double())
    for block, same in ((0, True), (1, False), (-3, True)):
        maps = explain(task.model, batch, CHOICE._replace(block=block)).maps
        assert torch.equal(maps["top_down"], maps["bottom_up"]) == (not maps["difference"].any()) == same


@pytest.mark.parametrize("depth, start, block", [(4, 0, -3), (2, 0, -2), (4, 1, -3), (4, 2, -2), (4, 3, -1)])
def test_maps_measure_the_third_block_from_the_end_or_the_first_that_looks_again(depth, start, block):
    vision = build_vision(tiny_vision(depth=depth, looks_again_from=start), 0)
    assert choose_maps(vision, None).block == usual_block(vision) == block


def naive_cls_attention(block, x, heads):
    """Softmax of CLS against every token, head by head."""
    q, k, _ = block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)
    rows = []
    for head in range(block.attn.num_heads):
        part = slice(head * 8, (head + 1) * 8)
        rows.append((q[:, :1, part] @ k[..., part].transpose(1, 2) / 8**0.5).softmax(dim=-1)[:, 0, 1:])
    rows = torch.stack(rows)
    return grid(rows.mean(dim=0) if heads == "mean" else rows.max(dim=0).values)


@pytest.mark.parametrize("heads", ["mean", "max"])
def test_cls_maps_are_the_attention_of_cls_in_the_last_block_of_each_look(task, batch, out, heads):
    maps = explain(task.model, batch, CHOICE._replace(heads=heads)).maps
    block = task.model.vision.blocks[-1]
    first, second = out.looks.first.states[-2][batch.image_index], out.looks.second.states[-2]
    torch.testing.assert_close(maps["bottom_up_cls"], naive_cls_attention(block, first, heads))
    torch.testing.assert_close(maps["top_down_cls"], naive_cls_attention(block, second, heads))


def test_the_cross_map_is_the_mean_over_real_text_tokens_heads_and_layers(task, batch, out):
    texts = task.model.encode_texts(batch.token_ids, batch.is_token)
    fused = task.model.fusion(texts.tokens, texts.is_token, out.looks.second.tokens, need_weights=True)
    expected = torch.stack(
        [
            torch.stack([layer[row, :, batch.is_token[row], 1:].mean(dim=(0, 1)) for layer in fused.text_to_image])
            for row in range(len(batch.token_ids))
        ]
    ).mean(dim=1)
    torch.testing.assert_close(explain(task.model, batch, CHOICE).maps["cross"], grid(expected))


def test_the_gradient_map_agrees_with_finite_differences_of_the_answers_logit(task, batch, out):
    answer = out.logits.argmax(dim=1, keepdim=True)
    check_by_finite_differences(task.model, batch, out, lambda pooled: task.model.head(pooled).gather(1, answer)[:, 0])


def test_the_gradient_map_of_a_caption_is_that_of_the_logit_of_matches(captions):
    model, batch = captions
    out = model(batch.images, batch.token_ids, batch.is_token, batch.image_index)
    weight, bias = model.head.itm.weight, model.head.itm.bias  # the head itself is never double
    check_by_finite_differences(model, batch, out, lambda pooled: F.linear(pooled, weight, bias)[:, 1])


def check_by_finite_differences(model, batch, out, said):
    """One fusion layer: the text's output as a function of attention weights that are given, not computed."""
    fusion, layer = model.fusion, model.fusion.text_layers[0]
    texts = model.encode_texts(batch.token_ids, batch.is_token)
    seen = fusion.image_transform(out.looks.second.tokens) + fusion.token_types.weight[1]
    x = fusion.text_transform(texts.tokens) + fusion.token_types.weight[0]
    pooled_image = fusion(texts.tokens, texts.is_token, out.looks.second.tokens).pooled[:, fusion.width :]
    weights = fusion(texts.tokens, texts.is_token, out.looks.second.tokens, need_weights=True).text_to_image[0]
    x = layer.self_attention(x, x, batch.is_token).tokens
    cross = layer.cross_attention
    values = cross.value(seen).unflatten(-1, (2, -1)).transpose(1, 2)

    def logit(attention):
        mixed = (attention @ values).transpose(1, 2).flatten(2)
        text = layer.feed_forward(cross.norm(x + cross.out(mixed)))
        return said(torch.cat([fusion.text_pooler(text), pooled_image], dim=1))

    pooled = fusion(texts.tokens, texts.is_token, out.looks.second.tokens).pooled
    torch.testing.assert_close(logit(weights), said(pooled))
    positive = torch.zeros_like(weights)
    for place in [(head, word, patch) for head in range(2) for word in (0, 1) for patch in range(1, 5)]:
        step = torch.zeros_like(weights)
        step[:, *place] = 1e-5
        slope = (logit(weights + step) - logit(weights - step)) / 2e-5
        positive[:, *place] = (slope * weights[:, *place]).clamp(min=0)
    assert (positive[:, :, 1] == 0).all()  # what is not pooled has no say
    expected = positive.mean(dim=1).sum(dim=1)[:, 1:] / batch.is_token.sum(dim=1, keepdim=True)
    result = explain(model, batch, CHOICE).maps["cross_gradient"]
    torch.testing.assert_close(result, grid(expected), rtol=1e-4, atol=1e-9)
    assert (result > 0).any()


def test_a_caption_has_every_map_that_a_question_has_and_the_scores_of_the_forward_pass(captions):
    model, batch = captions
    out = model(batch.images, batch.token_ids, batch.is_token, batch.image_index)
    explained = explain(model, batch, CHOICE)
    torch.testing.assert_close(explained.logits, out.logits, rtol=1e-5, atol=1e-5)
    assert list(explained.maps) == list(MAPS) and not any(each.requires_grad for each in explained.logits)
    torch.testing.assert_close(explained.maps["prior_mask"], grid(out.looks.prior_mask[:, 1:]))
    top_down = grid(out.looks.second.states[1][:, 1:].norm(dim=-1))
    bottom_up = grid(out.looks.first.states[1][batch.image_index, 1:].norm(dim=-1))
    torch.testing.assert_close(explained.maps["difference"], top_down - bottom_up)
    last, states = model.vision.blocks[-1], out.looks.second.states[-2]
    torch.testing.assert_close(explained.maps["top_down_cls"], naive_cls_attention(last, states, "mean"))
    texts = model.encode_texts(batch.token_ids, batch.is_token)
    fused = model.fusion(texts.tokens, texts.is_token, out.looks.second.tokens, need_weights=True)
    (layer,) = fused.text_to_image
    cross = [each[:, is_token, 1:].mean(dim=(0, 1)) for each, is_token in zip(layer, batch.is_token, strict=True)]
    torch.testing.assert_close(explained.maps["cross"], grid(torch.stack(cross)))


def test_questions_that_share_a_first_look_have_the_maps_that_each_would_have_alone(task, batch):
    together = explain(task.model, batch, CHOICE)
    for row, image in enumerate(batch.image_index.tolist()):
        length = int(batch.is_token[row].sum())
        alone = batch._replace(
            images=batch.images[image : image + 1], image_index=torch.zeros(1, dtype=torch.long),
            image_ids=batch.image_ids[image : image + 1], token_ids=batch.token_ids[row : row + 1, :length],
            is_token=batch.is_token[row : row + 1, :length],
        )  # fmt: skip
        own = explain(task.model, alone, CHOICE)
        torch.testing.assert_close(own.logits[0], together.logits[row], rtol=1e-6, atol=1e-6)
        for name in MAPS:
            torch.testing.assert_close(own.maps[name][0], together.maps[name][row], rtol=1e-6, atol=1e-8)


def test_a_map_does_not_depend_on_what_else_is_asked_for(task, batch):
    everything = explain(task.model, batch, CHOICE).maps
    for name in MAPS:
        (only,) = explain(task.model, batch, CHOICE._replace(names=(name,))).maps.items()
        assert only[0] == name
        torch.testing.assert_close(only[1], everything[name], rtol=1e-6, atol=1e-8)


def test_explaining_leaves_no_trace_and_needs_no_trainable_parameter(task, batch):
    explained = explain(task.model, batch, CHOICE).maps["cross_gradient"]
    assert all(parameter.grad is None and parameter.requires_grad for parameter in task.model.parameters())
    frozen = explain(task.model.requires_grad_(False), batch, CHOICE).maps["cross_gradient"]
    torch.testing.assert_close(frozen, explained, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("variant", "lacking"),
    [
        ("none", {**dict.fromkeys(OF_SECOND_LOOK, "ViT, looks once"), "prior_mask": "ViT, uses no prior"}),
        ("perceiver_io", dict.fromkeys(OF_SECOND_LOOK, "PerceiverIO, looks once")),
        ("feedback", {"prior_mask": "Feedback, uses no prior"}),
        ("mask_att", {}),
        ("absvit_qkv", {}),
    ],
)
def test_a_baseline_has_the_maps_that_it_can_have(world, tmp_path, batch, variant, lacking):
    baseline = make_task(world, tmp_path, top_down=variant)
    choice = choose_maps(baseline.model.vision, None, block=0)
    assert set(choice.names) == set(MAPS) - set(lacking)
    explained = explain(baseline.model, batch, choice)
    logits = baseline.model(batch.images, batch.token_ids, batch.is_token, batch.image_index).logits
    torch.testing.assert_close(explained.logits, logits, rtol=1e-6, atol=1e-6)
    assert all(each.shape == (len(batch.token_ids), SIDE, SIDE) for each in explained.maps.values())
    for name, reason in ((name, lacking[name]) for name in MAPS if name in lacking):
        with pytest.raises(ConfigError, match=f"there is no map '{name}': the model's encoder, {reason}"):
            choose_maps(baseline.model.vision, [name], block=0)


def test_what_does_not_exist_is_refused_before_anything_is_computed(task):
    vision = task.model.vision
    with pytest.raises(ConfigError, match="there is no map 'attention'; there are prior_mask, bottom_up, "):
        choose_maps(vision, ["cross", "attention"])
    for block in (-4, 3):
        with pytest.raises(ConfigError, match=f"there is no block {block}: the vision encoder has 3"):
            choose_maps(vision, ["cross", "difference"], block)
    assert choose_maps(vision, ["cross", "prior_mask"], block=-4).block == -4  # neither reads a block of one's choice
    assert choose_maps(vision, ["cross", "prior_mask", "cross"]) == (("cross", "prior_mask"), -3, "mean")
