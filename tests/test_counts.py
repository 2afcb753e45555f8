"""How often a run decodes, resamples, encodes, looks, fuses and updates, and what it keeps: nothing is timed.

The speed of docs/performance.md is work that is not done. A test fails when such work comes back. The operations of a
pass are counted in tests/test_costs.py, its waits for a GPU in tests/test_fake_cuda.py. N image tokens, D width, L
blocks.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from PIL import Image, ImageFile
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.every_task import Trial
from benchmarks.memory import kept_for_backward
from benchmarks.samples import Workload, questions_about
from benchmarks.synthetic import PAD
from benchmarks.training import nowhere
from tests.benchmarks.test_naive import ANSWERS, VARIANTS, make_model
from tests.data.character_tokenizer import character_tokenizer
from tests.prepare.raw_vqav2 import write_small_vqav2
from tests.test_costs import D, L, N, rows_through
from vl_absvit.data import kept
from vl_absvit.data.collate import VQABatch, collate_vqa
from vl_absvit.data.loaders import batch_loader
from vl_absvit.data.transforms import image_transform
from vl_absvit.data.vqa import VQADataset
from vl_absvit.looking.explanation import choose_maps, explain
from vl_absvit.looking.picture_texts import batches_by_image
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2
from vl_absvit.tasks.vqa import VQAConfig, VQATask
from vl_absvit.training.optim import build_optimizer

CPU = torch.device("cpu")
QUESTIONS = 4  # of a batch
HEADS = 4  # of the looks


@contextmanager
def pictures_handled() -> Iterator[Counter[str]]:
    """Files that are decoded, and pictures that are resampled."""
    counts: Counter[str] = Counter()
    load, resize = ImageFile.ImageFile.load, Image.Image.resize

    def watched_load(image):
        counts["decoded"] += bool(image.tile)
        return load(image)

    def watched_resize(*args, **options):
        counts["resampled"] += 1
        return resize(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", watched_load)
        patch.setattr(Image.Image, "resize", watched_resize)
        yield counts


@pytest.fixture
def questions(tmp_path, monkeypatch) -> VQADataset:
    """Four about each of four pictures, which memory does not keep."""
    monkeypatch.setattr(kept, "KEPT_BYTES", 0)
    raw = write_small_vqav2(tmp_path / "raw", images=4, questions_per_image=QUESTIONS)
    prepare_vqav2(PrepareOptions(root=raw, min_count=1), tmp_path / "out", workers=1)
    transform = image_transform(32, (0.5,) * 3, (0.5,) * 3)
    return VQADataset(tmp_path / "out", ["train"], 3, character_tokenizer(), 24, transform, training=True)


def rows_of(images: int) -> list[int]:
    """Of four questions about so many pictures."""
    return [QUESTIONS * image + row for image in range(images) for row in range(QUESTIONS // images)]


# Loading data.


@pytest.mark.parametrize("images", [QUESTIONS, 1])
def test_a_picture_is_decoded_and_resampled_once_for_all_questions_of_a_batch(questions, images):
    rows = rows_of(images)
    with pictures_handled() as counts:
        questions.__getitems__(rows)
    assert counts == {"decoded": images, "resampled": images}


def test_an_export_looks_at_a_picture_once_wherever_its_questions_stand(questions):
    rows = rows_of(2)
    shuffled = [rows[0], rows[2], rows[1], rows[3]]
    batches = [[shuffled[row] for row in batch] for batch in batches_by_image(questions.image_ids[shuffled], 2)]
    model = make_model(*VARIANTS[0], ANSWERS, vocabulary=10**4)
    with pictures_handled() as counts, rows_through(model) as passed:
        for batch in batch_loader(questions, batches, num_workers=0):
            explain(model, batch, choose_maps(model.vision, None, block=-1))
    assert counts == {"decoded": 2, "resampled": 2}
    assert passed["vision.patch_embed"] == [1, 1] and passed["text"] == passed["fusion"] == passed["head"] == [2, 2]
    assert all(sum(passed[f"vision.blocks.{block}"]) == 2 + QUESTIONS for block in range(L))


# A training step.


def batch_of(images: int, per_image: int) -> VQABatch:
    """Questions of one length, so that costs are in proportion to their number."""
    samples = questions_about(Workload(images, per_image, resolution=32), ANSWERS["num_answers"], words=100)
    texts = [sample._replace(token_ids=[0, 5, 6, 7, 8, 9, 10, 2]) for sample in samples]
    return collate_vqa(texts, pad_id=PAD, vocabulary_size=ANSWERS["num_answers"])


@pytest.fixture
def task() -> VQATask:
    return VQATask.without_data(VQAConfig(**nowhere()), make_model(*VARIANTS[0], ANSWERS).train())


@pytest.mark.parametrize("images", [QUESTIONS, 1])
def test_a_training_step_passes_every_question_once_and_every_image_once(task, images):
    with rows_through(task.model) as passed:
        task.losses(task.model, batch_of(images, QUESTIONS // images))
    assert passed["text"] == passed["prior"] == passed["fusion"] == passed["head"] == [QUESTIONS]
    assert passed["vision.patch_embed"] == [images]
    for block in range(L):
        assert passed[f"vision.blocks.{block}"] == [images, QUESTIONS]
        assert passed[f"vision.decoders.{block}.transform"] == [images]
        assert passed[f"vision.decoders.{block}.reconstruct"] == [images, QUESTIONS]


def kept_by(task: VQATask, batch: VQABatch) -> int:
    return kept_for_backward(lambda: task.losses(task.model, batch), task.model.parameters())


def test_what_is_kept_for_the_backward_pass_is_paid_once_for_an_image(task):
    one, two, four = (kept_by(task, batch_of(1, questions)) for questions in (1, 2, 4))
    first_look = kept_for_backward(lambda: task.model.vision.look_once(batch_of(1, 1).images), task.model.parameters())
    assert four - two == 2 * (two - one)  # every further question keeps the same
    assert one - (two - one) >= first_look > 0


def test_a_look_keeps_its_blocks_states_once_and_no_attention_weights(task):
    vision, images = task.model.vision, batch_of(1, 1).images

    def both_looks(texts: int) -> int:
        priors, index = torch.rand(texts, D), torch.zeros(texts, dtype=torch.long)
        return kept_for_backward(lambda: vision.look_twice(images, priors, image_index=index), vision.parameters())

    # Of a block: what goes into and comes out of two norms, with means and deviations; queries, keys, values and what
    # attention makes of them, with a sum for every row; the MLP's hidden states before and after GELU.
    block = 16 * N * D + HEADS * N + 4 * N
    norm = N * D + 2 * N
    first = kept_for_backward(lambda: vision.look_once(images), vision.parameters())
    assert first <= 4 * (images.numel() + L * block + norm)
    assert both_looks(3) - both_looks(2) <= 4 * (L * block + norm + 6 * N)  # + the prior mask and the scales it gives


class _Operations(TorchDispatchMode):
    """Names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_an_optimizer_step_updates_all_weights_of_a_rate_at_once(task):
    optimizer = build_optimizer(task.model, task.lr_of(), task.config.optim)
    sum(task.losses(task.model, batch_of(1, 2)).values()).backward()
    with _Operations() as operations:
        optimizer.step()
    updates = {name: count for name, count in operations.counts.items() if "adam" in name}
    assert updates == {"_fused_adamw_": len(optimizer.param_groups)}


# Evaluation.


def check_only_folded(trial: Trial, passed: dict[str, list[int]]) -> None:
    """Check that the decoders saw the unit vectors once, which folds them, and no token."""
    seen = [
        rows for name, rows in passed.items() if name.endswith((".transform", ".reconstruct")) and "decoders" in name
    ]
    assert seen == [[trial.size.vision.width]] * 2 * trial.size.vision.depth


def test_answering_a_split_passes_every_question_once_and_every_image_once():
    trial = Trial("vqa", "absvit", CPU)
    with rows_through(trial.model) as passed:
        trial.evaluate()
    images, questions = trial.size.samples // 2, trial.size.samples
    assert passed["text"] == passed["prior"] == passed["fusion"] == passed["head"] == [questions]
    assert passed["vision.patch_embed"] == [images] and passed["vision.blocks.0"] == [images, questions]
    check_only_folded(trial, passed)


def test_ranking_a_gallery_passes_texts_and_images_once_and_listed_pairs_alone_further():
    trial, images, captions = Trial("retrieval", "absvit", CPU), 4, 8
    trial.task.config = replace(trial.config, select_shortlist=1)  # of every image and of every caption
    with rows_through(trial.model) as passed:
        trial.evaluate()
    rows = {name: sum(each) for name, each in passed.items()}
    assert rows["text"] == rows["prior"] == captions and rows["vision.patch_embed"] == images
    assert images <= rows["fusion"] == rows["head"] <= images + captions
    assert rows["vision.blocks.0"] == images + rows["fusion"]
    check_only_folded(trial, passed)
