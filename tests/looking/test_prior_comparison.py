"""Priors of texts and classes: what they are, what strength 0 leaves of them, and pairs against one row at a time."""

import pytest
import torch
import torch.nn.functional as F

from tests.tiny_vqa import tiny_pretrain_config, tiny_retrieval_config, tiny_vision, tiny_vqa_config
from vl_absvit.data.collate import pad_texts
from vl_absvit.errors import InputError
from vl_absvit.looking.maps import norm_map, prior_mask_map
from vl_absvit.looking.prior_comparison import class_priors, load_steerable, strength, sweep, text_priors
from vl_absvit.models.prior import prior_similarity
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vqa import VQATask

TEXTS = ["a red star", "a blue ring", "a green circle"]
CLASSES = ["red_solid_star", "blue_dotted_ring", "nothing"]
ALPHAS = [0.0, 1.0, 30.0]


def save(task, folder):
    folder.mkdir()
    task.save(folder)
    return folder


@pytest.fixture(scope="module")
def folders(world, tmp_path_factory):
    """An untrained checkpoint of each kind."""
    base = tmp_path_factory.mktemp("priors")
    classifier = ClassificationTask(tiny_pretrain_config(world, base, pooling="avg"))
    torch.nn.init.normal_(classifier.model.vision.head.weight)  # which starts as 0
    return {
        "vqa": save(VQATask(tiny_vqa_config(world, base)), base / "vqa"),
        "retrieval": save(RetrievalTask(tiny_retrieval_config(world, base)), base / "retrieval"),
        "classifier": save(classifier, base / "classifier"),
        "qkv": save(VQATask(tiny_vqa_config(world, base, vision=tiny_vision(top_down="absvit_qkv"))), base / "qkv"),
    }


@pytest.fixture(params=["vqa", "retrieval", "classifier", "qkv"])
def priors(request, folders):
    checkpoint = load_steerable(folders[request.param])
    return class_priors(checkpoint, CLASSES) if request.param == "classifier" else text_priors(checkpoint, TEXTS)


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32)


def test_the_prior_of_a_text_is_the_projection_of_its_sentence(folders):
    checkpoint = load_steerable(folders["vqa"])
    ids = checkpoint.tokenizer(TEXTS)["input_ids"]
    with torch.no_grad():
        expected = checkpoint.model.encode_texts(*pad_texts(ids, checkpoint.tokenizer.pad_token_id)).prior
    torch.testing.assert_close(text_priors(checkpoint, TEXTS).vectors, expected)
    one = text_priors(checkpoint, TEXTS[1:2])
    torch.testing.assert_close(one.vectors[0], expected[1])
    tokens = torch.randn(5, 5, 16)
    assert checkpoint.model.pool == "mean"
    for pool, patch in (("mean", "mean"), ("lse", "max")):
        checkpoint.model.pool = pool
        one = text_priors(checkpoint, TEXTS[1:2])
        torch.testing.assert_close(one.cosines(tokens)[:, 0], prior_similarity(expected, tokens, patch)[1])
        torch.testing.assert_close(one.logits(tokens)[:, 0], prior_similarity(expected, tokens, pool)[1] / 0.07)
    assert one.probabilities is None


def test_the_prior_of_a_class_is_its_row_of_the_head(folders):
    checkpoint = load_steerable(folders["classifier"])
    priors, vision = class_priors(checkpoint, CLASSES), checkpoint.model.vision
    rows = [checkpoint.classes.index(name) for name in CLASSES]
    assert torch.equal(priors.vectors, vision.head.weight[rows])
    tokens = torch.randn(5, 5, 16)
    features = tokens[:, 1:].mean(dim=1)
    expected = F.linear(features, vision.head.weight, vision.head.bias)
    with torch.no_grad():
        torch.testing.assert_close(priors.logits(tokens), expected[:, rows])
        torch.testing.assert_close(priors.probabilities(tokens), expected.softmax(dim=1)[:, rows])
        cosines = F.cosine_similarity(features[:, None], vision.head.weight[None, rows], dim=-1)
        torch.testing.assert_close(priors.cosines(tokens), cosines)


def test_a_classifier_looks_as_it_did_in_training(folders, images):
    model = load_steerable(folders["classifier"]).model
    with torch.no_grad():
        before = model(images).second_logits
    priors = class_priors(load_steerable(folders["classifier"]), CLASSES)
    with torch.no_grad():
        query = priors.vision.look_twice(images)
    assert torch.equal(priors.vision.forward_head(query.second.tokens), before), "the trainable query is untouched"


def test_strength_changes_the_gain_alone_and_only_inside(priors, images):
    vision = priors.vision
    trained, gain = vision.modulate, vision.modulate.keywords["gain"]
    with torch.no_grad():
        usual = vision.look_twice(images, priors.vectors[[0, 1, 2, 0]]).second.tokens
        with strength(vision, gain):
            assert torch.equal(vision.look_twice(images, priors.vectors[[0, 1, 2, 0]]).second.tokens, usual)
        with pytest.raises(ZeroDivisionError), strength(vision, 2 * gain):
            assert vision.modulate.func is trained.func
            assert not torch.equal(vision.look_twice(images, priors.vectors[[0, 1, 2, 0]]).second.tokens, usual)
            raise ZeroDivisionError
    assert vision.modulate is trained


def test_a_sweep_is_what_the_model_gives_with_each_gain(priors, images):
    asked, index = torch.tensor([2, 0, 1]), torch.tensor([0, 0, 3])
    result = sweep(priors, images, asked, index, ALPHAS, block=-2)
    outputs, grid = priors.vision.outputs, priors.vision.token_grid()
    assert list(result.second) == ALPHAS
    with torch.no_grad():
        for alpha, view in result.second.items():
            for row in range(3):
                with strength(priors.vision, alpha):
                    looks = priors.vision.look_twice(images[index[row]][None], priors.vectors[asked[row]][None])
                torch.testing.assert_close(view.maps[row], norm_map(outputs(looks.second.states), grid, -2)[0])
                torch.testing.assert_close(view.cosines[row], priors.cosines(looks.second.tokens)[0])
                torch.testing.assert_close(view.logits[row], priors.logits(looks.second.tokens)[0])
                torch.testing.assert_close(result.prior_mask[row], prior_mask_map(looks.prior_mask, grid)[0])
        first = priors.vision.look_once(images)
    torch.testing.assert_close(result.first.maps, norm_map(outputs(first.states), grid, -2))
    torch.testing.assert_close(result.first.logits, priors.logits(first.tokens))


def test_a_block_below_the_second_look_shows_what_it_saw_at_first(world, tmp_path, images):
    VQATask(tiny_vqa_config(world, tmp_path, vision=tiny_vision(looks_again_from=1))).save(tmp_path)
    priors = text_priors(load_steerable(tmp_path), TEXTS)
    asked, index = torch.tensor([2, 0, 1]), torch.tensor([0, 0, 3])
    for block, same in ((0, True), (1, False)):
        result = sweep(priors, images, asked, index, [1.0], block)
        assert torch.equal(result.second[1.0].maps, result.first.maps[index]) == same


def test_a_look_that_is_not_finite_is_named_with_its_strength(priors, images):
    rows = torch.arange(3)
    with pytest.raises(InputError, match="alpha 1e\\+38: the second look gives numbers that are not finite"):
        sweep(priors, 1e3 * images, rows, rows, [0.0, 1e38], block=-1)
    with pytest.raises(InputError, match="^the first look gives"):
        sweep(priors, images * torch.nan, rows, rows, [], block=-1)


@pytest.mark.parametrize(
    "top_down, label",
    [("none", "ViT"), ("perceiver_io", "PerceiverIO"), ("feedback", "Feedback"), ("mask_att", "MaskAtt")],
)
def test_what_no_prior_steers_with_a_strength_is_refused(world, tmp_path, top_down, label):
    vision = tiny_vision(top_down=top_down)
    make = {"none": (ClassificationTask, tiny_pretrain_config), "feedback": (RetrievalTask, tiny_retrieval_config)}
    task, config = make.get(top_down, (VQATask, tiny_vqa_config))
    folder = save(task(config(world, tmp_path, vision=vision)), tmp_path / "saved")
    with pytest.raises(InputError, match=f"checkpoint {folder}: expected AbSViT or AbSViT-QKV, .*, got {label}$"):
        load_steerable(folder)


def test_unknown_classes_and_long_texts_are_refused(folders):
    with pytest.raises(InputError, match="prior 'unicorn': expected one of the checkpoint's 127 classes, blue_dotted_"):
        class_priors(load_steerable(folders["classifier"]), ["red_solid_star", "unicorn"])
    with pytest.raises(InputError, match="prior 'why why .*: the checkpoint reads at most 24 tokens"):
        text_priors(load_steerable(folders["vqa"]), ["a red star", "why " * 50])
