"""Captions as samples and as a gallery, on a folder where several images are described alike."""

import itertools
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import chisquare
from torch.utils.data import DataLoader
from transformers import RobertaTokenizer

from tests.data.caption_folder import picture, write_captions, write_tables
from tests.data.character_tokenizer import character_tokenizer
from vl_absvit.data.captions import CaptionDataset, CaptionGallery, FalseCaptions
from vl_absvit.data.collate import RetrievalSample, collate_retrieval
from vl_absvit.data.loaders import training_loader
from vl_absvit.data.records import ImageTable
from vl_absvit.data.transforms import image_transform
from vl_absvit.errors import InputError

PLAIN = image_transform(16, (0.5,) * 3, (0.5,) * 3)
AUGMENTED = image_transform(16, (0.5,) * 3, (0.5,) * 3, "randaugment")
TRAIN = [  # neither ids nor captions per image are in order
    (30, 7, "A dog."),
    (31, 7, "A dog on grass."),
    (32, 7, "A dog."),
    (10, 9, "Two cats."),
    (11, 9, "A dog."),
    (50, 2, "A dog on grass."),
    (51, 2, "Grass."),
    (52, 2, "A very small dog."),
    (70, 4, "A bird."),
    (71, 4, "Two birds."),
]
VAL = [(91, 12, "A tree."), (90, 12, "Two trees."), (80, 3, "A house.")]
TEXT = {caption_id: caption for caption_id, _, caption in TRAIN}


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return write_captions(tmp_path_factory.mktemp("captions"), {"train": TRAIN, "val": VAL})


def dataset(root, tokenizer, splits=("train",), max_tokens=64, transform=PLAIN, negatives=3, seed=0):
    return CaptionDataset(root, splits, tokenizer, max_tokens, transform, negatives, seed)


def tokens(text):
    return [0, *map(ord, text), 2]


def read(token_ids):
    """What ``character_tokenizer`` made tokens of."""
    return "".join(map(chr, token_ids[1:-1]))


def may_be_drawn(image_id, rows=TRAIN):
    """Texts of the captions that are not of the image, neither by id nor by text."""
    own = {text for _, other, text in rows if other == image_id}
    return [text for _, other, text in rows if other != image_id and text not in own]


def test_a_sample_is_a_caption_its_image_and_false_captions(prepared, tokenizer):
    sample = dataset(prepared, tokenizer)[4]
    assert (sample.caption_id, sample.image_id) == (11, 9)
    assert sample.texts[0] == tokens("A dog.") and len(sample.texts) == 4
    assert torch.equal(sample.image, PLAIN(picture(9)))


def test_false_captions_are_of_other_images_and_of_other_text(prepared, tokenizer):
    data = dataset(prepared, tokenizer)
    for epoch in range(40):
        data.set_epoch(epoch)
        for sample in data.__getitems__(range(len(data))):
            false = Counter(read(text) for text in sample.texts[1:])
            assert false <= Counter(may_be_drawn(sample.image_id)) and false.total() == 3  # none drawn twice


def test_as_many_false_captions_as_there_are_can_be_asked_for_and_no_more(prepared, tokenizer):
    assert [len(may_be_drawn(image_id)) for image_id in (7, 9, 2, 4)] == [5, 6, 6, 8]
    data = dataset(prepared, tokenizer, negatives=5)
    for sample in data.__getitems__([0, 1, 2]):  # of image 7
        assert sorted(map(read, sample.texts[1:])) == sorted(may_be_drawn(sample.image_id))
    with pytest.raises(InputError, match="train: expected 6 false captions .* only 5 captions .* of image 7$"):
        dataset(prepared, tokenizer, negatives=6)
    with pytest.raises(InputError, match="val: expected 2 false captions .* only 1 captions .* of image 12$"):
        dataset(prepared, tokenizer, splits=["val"], negatives=2)
    assert [len(sample.texts) for sample in dataset(prepared, tokenizer, negatives=0).__getitems__([0, 3])] == [1, 1]


def test_every_ordered_choice_of_false_captions_is_as_likely():
    texts = pa.chunked_array([["a", "b"], ["c", "a", "d", "e", "e"]])
    false = FalseCaptions(np.arange(7), np.array([1, 1, 2, 2, 3, 3, 4]), texts, seed=0)
    assert false.eligible.tolist() == [4, 4, 4, 4, 4, 4, 5]
    seen = Counter(tuple(false.draw(0, 2, epoch)) for epoch in range(2400))
    assert sorted(seen) == sorted(itertools.permutations([2, 4, 5, 6], 2))  # not row 3, which says "a", too
    assert chisquare(list(seen.values())).pvalue > 0.01


def test_eligible_captions_are_counted_as_by_brute_force():
    draw = np.random.default_rng(0)
    image_ids, words = draw.integers(20, size=300), draw.integers(60, size=300)
    false = FalseCaptions(np.arange(300), image_ids, pa.chunked_array([[str(word) for word in words]]), seed=0)
    for row in range(300):
        allowed = np.flatnonzero(~np.isin(words, words[image_ids == image_ids[row]]))
        assert not (image_ids[allowed] == image_ids[row]).any()
        assert false.eligible[row] == len(allowed)
        assert sorted(false.draw(row, len(allowed), epoch=3)) == allowed.tolist()
        assert set(false.draw(row, 5, epoch=3)) <= set(allowed.tolist())


def test_false_captions_follow_seed_epoch_and_caption_and_nothing_else(prepared, tokenizer):
    def batches(epoch=0, seed=0, workers=0, micro_batch_size=5, loader_seed=0):
        data = dataset(prepared, tokenizer, transform=AUGMENTED, seed=seed)
        loader = training_loader(
            data, batch_size=10, micro_batch_size=micro_batch_size, rank=0, world_size=1, seed=loader_seed,
            epoch=epoch, num_workers=workers,
        )  # fmt: skip
        texts, images = {}, {}
        for batch in loader:
            captions = [read(ids[real].tolist()) for ids, real in zip(batch.token_ids, batch.is_token, strict=True)]
            for row, caption_id in enumerate(batch.caption_ids.tolist()):
                texts[caption_id] = captions[4 * row : 4 * row + 4]
                image_id, image = batch.image_ids[batch.image_index[row]].item(), batch.images[batch.image_index[row]]
                assert torch.equal(images.setdefault(image_id, image), image)
        assert len(texts) == 10
        return texts, torch.stack([images[image_id] for image_id in sorted(images)])

    texts, images = batches()
    for other in (dict(workers=1), dict(workers=2), dict(micro_batch_size=2, workers=2), dict(loader_seed=3)):
        same_texts, same_images = batches(**other)
        assert same_texts == texts and torch.equal(same_images, images)
    for other in (dict(epoch=1), dict(seed=1)):
        other_texts, other_images = batches(**other)
        assert other_texts != texts and not torch.equal(other_images, images)
        assert {caption_id: captions[0] for caption_id, captions in other_texts.items()} == TEXT


def test_every_distinct_image_of_a_batch_is_decoded_once_and_shared(prepared, tokenizer, monkeypatch):
    opened = []
    open_images = ImageTable.open
    monkeypatch.setattr(ImageTable, "open", lambda self, ids, how: opened.extend(ids) or open_images(self, ids, how))
    data = dataset(prepared, tokenizer)
    samples = data.__getitems__([3, 0, 1, 4, 2])
    assert opened == [9, 7] and samples[0].image is samples[3].image and samples[1].image is samples[4].image
    batch = data.collate(samples)
    assert batch.images.shape == (2, 3, 16, 16) and batch.image_ids.tolist() == [9, 7]
    assert batch.image_index.tolist() == [0, 1, 1, 0, 1] and batch.caption_ids.tolist() == [10, 30, 31, 11, 32]
    assert batch.token_ids.shape == batch.is_token.shape == (20, 24)
    for row, caption_id in zip(range(0, 20, 4), batch.caption_ids.tolist(), strict=True):
        assert batch.token_ids[row, batch.is_token[row]].tolist() == tokens(TEXT[caption_id])


def test_a_batch_by_hand():
    red, blue = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    samples = [
        RetrievalSample(5, 8, red, [[0, 40, 2], [0, 41, 42, 2]]),
        RetrievalSample(6, 3, blue, [[0, 43, 2], [0, 2]]),
        RetrievalSample(4, 8, red, [[0, 44, 45, 46, 2], [0, 47, 2]]),
    ]
    batch = collate_retrieval(samples, pad_id=1)
    assert torch.equal(batch.images, torch.stack([red, blue]))
    assert batch.image_index.tolist() == [0, 1, 0] and batch.image_ids.tolist() == [8, 3]
    assert batch.caption_ids.tolist() == [5, 6, 4] and batch.captioned_ids.tolist() == [8, 3, 8]
    assert batch.token_ids.tolist() == [
        [0, 40, 2, 1, 1, 1, 1, 1],
        [0, 41, 42, 2, 1, 1, 1, 1],
        [0, 43, 2, 1, 1, 1, 1, 1],
        [0, 2, 1, 1, 1, 1, 1, 1],
        [0, 44, 45, 46, 2, 1, 1, 1],
        [0, 47, 2, 1, 1, 1, 1, 1],
    ]
    assert batch.is_token.sum(dim=1).tolist() == [3, 4, 3, 2, 5, 3]
    assert {field.dtype for field in (batch.image_index, batch.image_ids, batch.token_ids)} == {torch.int64}


def test_captions_whose_image_was_missing_are_left_out_counted_and_never_drawn(tmp_path, tokenizer, caplog):
    root = write_captions(tmp_path, {"train": TRAIN}, missing=[9])
    data = dataset(root, tokenizer)
    left = [row for row in TRAIN if row[1] != 9]
    assert data.without_image == 2 and "2 captions left out, their images were missing" in caplog.text
    drawn = set()
    for epoch in range(20):
        data.set_epoch(epoch)
        samples = data.__getitems__(range(len(data)))
        assert [(s.caption_id, s.image_id, read(s.texts[0])) for s in samples] == left
        drawn |= {read(text) for text in samples[3].texts[1:]}
    assert drawn == set(may_be_drawn(2, left)) == {"A dog.", "A bird.", "Two birds."}
    gallery = CaptionGallery(root, "train", tokenizer, 64, PLAIN)
    assert gallery.image_ids.tolist() == [7, 2, 4] and gallery.without_image == 2
    assert [gallery.caption(row) for row in range(len(left))] == [text for _, _, text in left]


def test_no_caption_left_is_refused(tmp_path, tokenizer):
    root = write_captions(tmp_path, {"train": TRAIN, "val": VAL}, missing=[12, 3])
    for make in (lambda: dataset(root, tokenizer, ["val"]), lambda: CaptionGallery(root, "val", tokenizer, 64, PLAIN)):
        with pytest.raises(InputError, match="val has no caption to use: 3 without their image"):
            make()


def test_a_gallery_is_the_table_joined_with_its_images(prepared, tokenizer):
    gallery = CaptionGallery(prepared, "train", tokenizer, 64, PLAIN)
    assert gallery.image_ids.tolist() == list(dict.fromkeys(image_id for _, image_id, _ in TRAIN)) == [7, 9, 2, 4]
    assert gallery.caption_ids.tolist() == [caption_id for caption_id, _, _ in TRAIN]
    assert gallery.image_ids.dtype == gallery.caption_ids.dtype == gallery.image_of_caption.dtype == np.int64
    joined = [
        (gallery.caption_ids[row], gallery.image_ids[gallery.image_of_caption[row]], gallery.caption(row))
        for row in range(len(TRAIN))
    ]
    assert joined == TRAIN
    assert gallery.lengths.tolist() == [len(text) + 2 for _, _, text in TRAIN]
    assert gallery.without_image == 0 and gallery.truncated == 0


def test_texts_of_a_gallery_are_padded_rows(prepared, tokenizer):
    gallery = CaptionGallery(prepared, "train", tokenizer, 64, PLAIN)
    rows = np.array([9, 6, 9])
    token_ids, is_token = gallery.texts(rows)
    assert token_ids.tolist() == [
        tokens("Two birds.") + [1] * 4,
        tokens("Grass.") + [1] * 8,
        tokens("Two birds.") + [1] * 4,
    ]
    assert is_token.sum(dim=1).tolist() == gallery.lengths[rows].tolist() == [12, 8, 12]


@pytest.mark.parametrize("workers", [0, 2])
def test_images_of_a_gallery_go_through_a_loader_by_row(prepared, tokenizer, workers):
    images = CaptionGallery(prepared, "train", tokenizer, 64, PLAIN).images
    assert len(images) == 4 and torch.equal(images[3], PLAIN(picture(4)))
    batches = [[2, 0], [3], [1, 1]]
    loaded = list(DataLoader(images, batch_sampler=batches, collate_fn=images.collate, num_workers=workers))
    by_hand = [torch.stack([PLAIN(picture([7, 9, 2, 4][row])) for row in rows]) for rows in batches]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(loaded, by_hand, strict=True))


def test_real_captions_and_images_make_samples_and_a_gallery(real_data, tmp_path):
    source = real_data / "flickr30k-karpathy"
    images = json.loads((source / "images_index.json").read_text())
    files = {int(image["filename"].removesuffix(".jpg")): image["filename"] for image in images}
    captions = [(image_id, text) for image_id, image in zip(files, images, strict=True) for text in image["captions"]]
    rows = [(caption_id, image_id, text) for caption_id, (image_id, text) in enumerate(captions)]
    write_tables(tmp_path, source / "images", {"all": rows}, files)
    roberta = RobertaTokenizer.from_pretrained(real_data / "roberta-base-tokenizer")
    data = dataset(tmp_path, roberta, ["all"], max_tokens=40, negatives=15)
    assert len(data) == 70 and data.truncated == 0
    assert data.collate(data.__getitems__([0, 1, 5])).token_ids.shape[0] == 48
    gallery = CaptionGallery(tmp_path, "all", roberta, 40, PLAIN)
    assert gallery.image_of_caption.tolist() == np.repeat(np.arange(14), 5).tolist()
    token_ids, is_token = gallery.texts(range(70))
    decoded = [roberta.decode(ids[real][1:-1]) for ids, real in zip(token_ids, is_token, strict=True)]
    assert decoded == [caption for _, _, caption in rows]
