"""What is decoded of a model: z_0, the reconstruction that its decoders bring there, and exact pictures in the end."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.tiny_vqa import tiny_pretrain_config, tiny_retrieval_config, tiny_vision, tiny_vqa_config
from vl_absvit.data.records import ImageTable
from vl_absvit.errors import InputError
from vl_absvit.looking.decoded_pictures import (
    decode_image,
    load_decodable,
    reconstructed_input,
    to_pixels,
    tokens_and_patches,
)
from vl_absvit.looking.linear_decoder import decode, decode_signal, fit_decoder, to_patches, to_pictures
from vl_absvit.looking.prior_comparison import strength
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.trunk_file import images_of_split
from vl_absvit.tasks.vl_checkpoint import VLCheckpoint
from vl_absvit.tasks.vqa import VQATask


def make_checkpoint(world, folder, **vision) -> VLCheckpoint:
    """An untrained model in double precision whose every matrix matters."""
    task = VQATask(tiny_vqa_config(world, folder, vision=tiny_vision(**vision)))
    for name, parameter in task.model.double().eval().named_parameters():
        if "decoders" in name or "pos_embed" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return VLCheckpoint(task.model, task.tokenizer, task.preprocessing, task.training)


@pytest.fixture
def checkpoint(world, tmp_path):
    return make_checkpoint(world, tmp_path)


@pytest.fixture
def images(world):
    return ImageTable(world / "prepared")


def pictures(patches: Tensor) -> Tensor:
    """Of the models here."""
    return to_pictures(patches, (2, 2), (32, 32))


def fit(checkpoint, images, ridge=1e-3):
    batches = tokens_and_patches(checkpoint, images, images.available.tolist(), batch_size=4)
    return fit_decoder(batches, checkpoint.model.vision.positions(), ridge)


@pytest.mark.parametrize(
    "vision",
    [
        dict(),
        dict(top_down="absvit_qkv", depth=3),
        dict(modulation="reweight_project", gain=5.0),
        dict(top_down="feedback"),
    ],
)
def test_what_is_decoded_becomes_the_first_blocks_signal_by_its_transform_alone(world, tmp_path, vision):
    vision = make_checkpoint(world, tmp_path, **vision).model.vision
    prior, index = torch.randn(3, 16).double(), torch.tensor([0, 1, 1])
    if not vision.uses_prior:
        prior, index = None, None
    with torch.no_grad():
        first = vision.look_once(torch.randn(2, 3, 32, 32).double())
        reconstruction = reconstructed_input(vision, first, prior, index)
        signal = vision.look_again(first, prior, index).signals[0].tokens
        torch.testing.assert_close(vision.decoders[0].transform(reconstruction), signal)
    assert reconstruction.abs().max() > 0.01


def test_a_picture_is_decoded_from_z0_and_from_z0_with_what_is_fed_back(checkpoint, images):
    vision, decoder = checkpoint.model.vision, fit(checkpoint, images)
    [picture], prior = images.open([int(images.available[0])]), torch.randn(3, 16).double()
    decoded = decode_image(checkpoint, decoder, picture, prior)
    assert decoded.image.shape == decoded.bottom_up.shape == (32, 32, 3)
    assert decoded.top_down.shape == decoded.sum.shape == (3, 32, 32, 3)
    with torch.no_grad():
        image = checkpoint.preprocessing.transform()(picture)[None].double()
        first = vision.look_once(image)
        tokens = (vision.patch_embed(image) + vision.pos_embed[:, 1:])[0]
        for row in range(3):
            signal = reconstructed_input(vision, first, prior[row : row + 1], None)[:, 1:]
            top_down = pictures(decode_signal(decoder, signal))[0].numpy()
            np.testing.assert_allclose(decoded.top_down[row], top_down)
            both = pictures(decode(decoder, tokens + signal))[0].numpy()
            np.testing.assert_allclose(decoded.sum[row], both, atol=1e-12)
    np.testing.assert_allclose(decoded.bottom_up, pictures(decode(decoder, tokens[None]))[0].numpy())
    np.testing.assert_allclose(decoded.sum, decoded.bottom_up + decoded.top_down, atol=1e-12)
    assert not np.allclose(decoded.top_down[0], decoded.top_down[1])


def test_the_gain_multiplies_what_is_fed_back_and_changes_nothing_else(checkpoint, images):
    decoder, [picture] = fit(checkpoint, images), images.open([int(images.available[0])])
    prior = torch.randn(2, 16).double()
    decoded = {}
    for gain in (0.0, 1.0, 10.0):
        with strength(checkpoint.model.vision, gain):
            decoded[gain] = decode_image(checkpoint, decoder, picture, prior)
    np.testing.assert_allclose(decoded[10.0].top_down, 10 * decoded[1.0].top_down)
    assert decoded[1.0].top_down.any() and not decoded[0.0].top_down.any()
    np.testing.assert_array_equal(decoded[10.0].bottom_up, decoded[0.0].bottom_up)
    np.testing.assert_allclose(decoded[0.0].sum, np.stack([decoded[0.0].bottom_up] * 2))


def test_pictures_come_back_whole_where_the_patch_embedding_can_be_inverted(world, tmp_path, images):
    checkpoint = make_checkpoint(world, tmp_path, patch_size=4, width=48)
    train, val = (images_of_split(world / "prepared", split, images) for split in ("train", "val"))
    seen = tokens_and_patches(checkpoint, images, train.tolist(), batch_size=3)
    decoder = fit_decoder(seen, checkpoint.model.vision.positions(), ridge=1e-13)
    for picture in images.open(val.tolist()):
        decoded = decode_image(checkpoint, decoder, picture, torch.randn(1, 48).double())
        np.testing.assert_allclose(decoded.bottom_up, decoded.image, atol=1e-6)


def test_batches_are_z0_without_cls_and_the_pixels_that_it_was_made_of(checkpoint, images):
    ids = images.available[:5].tolist()
    batches = list(tokens_and_patches(checkpoint, images, ids, batch_size=2))
    assert [len(tokens) for tokens, _ in batches] == [2, 2, 1]
    vision = checkpoint.model.vision
    for number, picture in enumerate(images.open(ids)):
        tokens, patches = (part[number % 2] for part in batches[number // 2])
        image = checkpoint.preprocessing.transform()(picture)[None].double()
        torch.testing.assert_close(patches, to_patches(to_pixels(image, checkpoint.preprocessing), (2, 2))[0])
        with torch.no_grad():
            torch.testing.assert_close(tokens, vision.patch_embed(image)[0] + vision.positions())


def test_pixels_are_those_of_the_picture(checkpoint):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = checkpoint.preprocessing.transform()(Image.fromarray(pixels))
    found = to_pixels(image[None], checkpoint.preprocessing)[0].permute(1, 2, 0)
    np.testing.assert_allclose(found, pixels / 255, atol=1e-6)


def test_what_is_not_finite_is_refused(checkpoint, images):
    decoder, [picture] = fit(checkpoint, images), images.open([int(images.available[0])])
    with pytest.raises(InputError, match="^what the model makes of the picture has numbers that are not finite"):
        decode_image(checkpoint, decoder, picture, torch.full((1, 16), torch.nan).double())


def test_images_of_a_split_are_those_of_its_questions_or_captions(world, images):
    train, val = (images_of_split(world / "prepared", split, images) for split in ("train", "val"))
    assert len(train) == 10 and len(val) == 3 and not np.intersect1d(train, val).size
    captions = world / "prepared/coco"
    assert len(images_of_split(captions, "val", ImageTable(captions))) > 0
    with pytest.raises(InputError, match="there is no split 'vall'; it has train, minival, val, test, test-dev"):
        images_of_split(world / "prepared", "vall", images)
    with pytest.raises(InputError, match="there is no image in val$"):
        images.available = train
        images_of_split(world / "prepared", "val", images)


@pytest.mark.parametrize("top_down, label", [("none", "ViT"), ("perceiver_io", "PerceiverIO"), ("mask_att", "MaskAtt")])
def test_an_encoder_that_feeds_nothing_back_is_refused(world, tmp_path, top_down, label):
    VQATask(tiny_vqa_config(world, tmp_path, vision=tiny_vision(top_down=top_down))).save(tmp_path)
    with pytest.raises(InputError, match=f"expected one of Feedback, AbSViT, AbSViT-QKV, whose .*, got {label}$"):
        load_decodable(tmp_path)


def test_feedback_that_ends_above_the_first_block_is_refused(world, tmp_path):
    VQATask(tiny_vqa_config(world, tmp_path, vision=tiny_vision(looks_again_from=1))).save(tmp_path)
    with pytest.raises(InputError, match="expected feedback to the first block's input, got a model that looks again "):
        load_decodable(tmp_path)


def test_a_retrieval_run_is_read_and_a_classifier_is_not(world, tmp_path):
    tasks = (
        RetrievalTask(tiny_retrieval_config(world, tmp_path)),
        ClassificationTask(tiny_pretrain_config(world, tmp_path)),
    )
    for name, task in zip(("retrieval", "classifier"), tasks, strict=True):
        (tmp_path / name).mkdir()
        task.save(tmp_path / name)
    assert load_decodable(tmp_path / "retrieval").model.vision.feeds_back
    with pytest.raises(InputError, match="expected a VQA model or a retrieval model, got a classifier$"):
        load_decodable(tmp_path / "classifier")
