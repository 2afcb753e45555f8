"""Texts that several images have are known of each of them, whichever of its captions a batch shows."""

import numpy as np
import pyarrow as pa
import pytest

from tests.data.caption_folder import write_captions
from tests.tiny_vqa import world  # noqa: F401
from vl_absvit.data.pairs import PairDataset, PairFolder
from vl_absvit.data.recurring_texts import RecurringTexts, text_number
from vl_absvit.data.transforms import image_transform
from vl_absvit.tasks.tokenizers import load_tokenizer


def test_they_are_those_that_a_search_through_all_captions_finds():
    generator = np.random.default_rng(0)
    for captions in range(1, 60):
        image_ids = generator.integers(1 + captions // 4, size=captions)
        texts = [f"text {n}" for n in generator.integers(1 + captions // 3, size=captions)]
        halves = [pa.array(texts[: captions // 2], pa.string()), pa.array(texts[captions // 2 :])]
        recurring = RecurringTexts(image_ids, pa.chunked_array(halves))
        pairs = set(zip(image_ids.tolist(), texts, strict=True))
        for image_id in range(captions):
            mine = {text for image, text in pairs if image == image_id}
            expected = {text for image, text in pairs if image != image_id} & mine
            assert recurring.of(image_id).tolist() == sorted(map(text_number, expected))


def test_where_every_image_has_one_caption_there_are_none():
    assert len(RecurringTexts(np.array([1, 2]), pa.chunked_array([pa.array(["sky", "sky"])])).of(1)) == 0


@pytest.fixture
def data(tmp_path, world):  # noqa: F811
    rows = [(1, 10, "blue sky"), (2, 10, "a dog"), (3, 20, "a cat"), (4, 20, "blue sky"), (5, 30, "a dog")]
    root = write_captions(tmp_path / "captions", {"train": rows})
    tokenizer = load_tokenizer(str(world / "demo/tokenizer"))
    transform = image_transform(32, (0.5,) * 3, (0.5,) * 3)
    return PairDataset([PairFolder(str(root), ("train",), 0)], tokenizer, 24, transform, share=0.15)


def test_a_batch_of_pairs_has_them(data):
    batch = data.collate(data.__getitems__(data.batches(5, 0)[0].tolist()))
    of_caption = {1: "blue sky", 2: "a dog", 3: "a cat", 4: "blue sky", 5: "a dog"}
    of_image = {10: ["blue sky", "a dog"], 20: ["blue sky"], 30: ["a dog"]}
    assert batch.texts.tolist() == [text_number(of_caption[each]) for each in batch.caption_ids.tolist()]
    for image_id, numbers in zip(batch.captioned_ids.tolist(), batch.said, strict=True):
        assert sorted(numbers.tolist()) == sorted(map(text_number, of_image[image_id]))
