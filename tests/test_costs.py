"""What a pass through the model costs, and how often each part works: nothing twice, nothing that nobody asked for.

Costs are multiply-adds of matrix products, convolutions and attention, derived from the sizes of a small model; what
PyTorch counts must be the same to the last one. Shapes: I images, B texts, T text tokens, N image tokens, D vision
width, L blocks, W text width, F fusion width, H heads.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.samples import Workload, captioned_images
from benchmarks.synthetic import PAD, SyntheticGallery
from benchmarks.training import nowhere
from tests.benchmarks.test_naive import ANSWERS, TEXT, VARIANTS, make_model
from vl_absvit.data.collate import collate_retrieval
from vl_absvit.models import VLAbSViT
from vl_absvit.models.top_down import have_signal
from vl_absvit.planning.flops import flop_counter
from vl_absvit.tasks.retrieval import RetrievalConfig, RetrievalTask
from vl_absvit.tasks.retrieval_scores import GalleryScorer

N, D, L, PATCHES, PATCH = 17, 16, 3, 16, 8
W, TEXT_LAYERS, TEXT_HIDDEN = TEXT.hidden_size, TEXT.num_hidden_layers, TEXT.intermediate_size
F, H, FUSION_LAYERS, FUSION_HIDDEN = 32, 4, 3, 64
IMAGES, IMAGE_INDEX = 2, torch.tensor([0, 1, 1, 0, 1])
TEXTS = len(IMAGE_INDEX)
EMBEDDING = PATCHES * 3 * PATCH**2 * D
VALUES = N * D**2  # of queries, keys and values each
ATTENTION = 2 * N**2 * D
BLOCK = ATTENTION + 9 * N * D**2  # all that follows the values: attention, its projection, an MLP of hidden width 4 D
FIRST_LOOK = EMBEDDING + L * (3 * VALUES + BLOCK)
VQA_HEAD = (2 * F) ** 2 + 2 * F * ANSWERS["num_answers"]
MATCHING_HEAD = 2 * F * (1 + 2)
PRIOR = W * D


def second_look(texts: int, images: int, blocks: int = L) -> int:
    """Every block has one projection of values; in the first, queries and keys are known, and so are the bottom-up
    values, so that only the image's signal is projected."""
    return texts * (blocks * BLOCK + (blocks - 1) * 3 * VALUES) + images * VALUES


def text_encoder(tokens: int) -> int:
    """Of one text."""
    return TEXT_LAYERS * tokens * (4 * W**2 + 2 * tokens * W + 2 * W * TEXT_HIDDEN)


def attention(queries: int, context: int, folds: bool) -> int:
    """In the fusion. In evaluation, a side that is short enough carries the projections of the other."""
    if folds and 2 * queries * H <= F:
        return queries * 4 * F**2 + 2 * queries * context * H * F
    if folds and 2 * context * H <= F:
        return context * (4 * F**2 + F) + 2 * queries * context * H * F  # + F for the bias of the queries
    return (2 * queries + 2 * context) * F**2 + 2 * queries * context * F


def fusion(tokens: int, folds: bool) -> int:
    """Of one pair; in the last layer, of the two tokens alone that are pooled."""
    total = tokens * W * F + N * D * F + 2 * F**2
    for layer in range(FUSION_LAYERS):
        for own, other in ((tokens, N), (N, tokens)):
            queries = 1 if layer == FUSION_LAYERS - 1 else own
            total += attention(queries, own, folds) + attention(queries, other, folds)
            total += 2 * queries * F * FUSION_HIDDEN
    return total


def multiply_adds(counter: FlopCounterMode) -> int:
    return counter.get_total_flops() // 2


@contextmanager
def rows_through(model: VLAbSViT) -> Iterator[dict[str, list[int]]]:
    """Rows of the first input of every call, by module."""
    seen = {name: [] for name, _ in model.named_modules()}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: seen[name].append(len(next(iter((*args, *kwargs.values()))))),
            with_kwargs=True,
        )
        for name, module in model.named_modules()
    ]
    yield seen
    for hook in hooks:
        hook.remove()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(IMAGES, 3, 32, 32)


def texts(tokens: int) -> tuple[Tensor, Tensor]:
    """Token ids (B, T) and their mask, real at all positions of the first text alone."""
    is_token = torch.arange(tokens) < torch.tensor([tokens] + [3] * (TEXTS - 1)).unsqueeze(1)
    return torch.randint(3, 100, (TEXTS, tokens)).masked_fill(~is_token, 1), is_token


@pytest.fixture
def model() -> VLAbSViT:
    return make_model(*VARIANTS[0], ANSWERS)


@pytest.mark.parametrize("tokens", [4, 8])  # few enough for the fusion to fold its projections, and too many
@torch.no_grad()
def test_evaluation_encodes_texts_and_images_once_and_reconstructs_nothing(model, images, tokens):
    inputs = (images, *texts(tokens), IMAGE_INDEX)
    model.vision.fold()
    looks = model(*inputs).looks
    with_signal = int(have_signal(looks.signals[0]).sum())
    assert 0 < with_signal < IMAGES * N
    with flop_counter() as counter, rows_through(model) as rows:
        model(*inputs)
    feedback = with_signal * L * D**2  # one matrix per block
    expected = TEXTS * (text_encoder(tokens) + PRIOR) + IMAGES * FIRST_LOOK + feedback + second_look(TEXTS, IMAGES)
    assert multiply_adds(counter) == expected + TEXTS * (fusion(tokens, folds=True) + VQA_HEAD)
    assert rows["text"] == rows["prior"] == rows["head"] == [TEXTS] and rows["vision.patch_embed"] == [IMAGES]
    assert all(rows[f"vision.blocks.{block}"] == [IMAGES, TEXTS] for block in range(L))
    assert not any(rows[name] for name in rows if name.startswith("vision.decoders."))


@pytest.mark.parametrize("start", range(1, L))
@torch.no_grad()
def test_blocks_below_the_second_look_cost_their_first_look_alone(images, start):
    model, again = make_model(*VARIANTS[0], ANSWERS, looks_again_from=start), L - start
    inputs = (images, *texts(8), IMAGE_INDEX)
    model.vision.fold()
    with_signal = int(have_signal(model(*inputs).looks.signals[0]).sum())
    with flop_counter() as counter, rows_through(model) as rows:
        model(*inputs)
    expected = TEXTS * (text_encoder(8) + PRIOR) + IMAGES * FIRST_LOOK + with_signal * again * D**2
    expected += second_look(TEXTS, IMAGES, again) + TEXTS * (fusion(8, folds=True) + VQA_HEAD)
    assert multiply_adds(counter) == expected
    assert [rows[f"vision.blocks.{block}"] for block in range(L)] == [[IMAGES]] * start + [[IMAGES, TEXTS]] * again


@torch.no_grad()
def test_folding_takes_two_products_of_matrices_per_block(model):
    with flop_counter() as counter:
        model.vision.fold()
    assert multiply_adds(counter) == 2 * L * D**3


@pytest.mark.parametrize("need_reconstruction", [False, True])
def test_training_shares_first_look_and_feedback_and_reconstructs_if_asked(model, images, need_reconstruction):
    inputs, tokens = (images, *texts(8), IMAGE_INDEX), 8
    with flop_counter() as counter, rows_through(model.train()) as rows:
        model(*inputs, need_reconstruction=need_reconstruction)
    feedback = IMAGES * N * 2 * L * D**2  # of images, whatever is asked about them
    expected = TEXTS * (text_encoder(tokens) + PRIOR) + IMAGES * FIRST_LOOK + feedback + second_look(TEXTS, IMAGES)
    expected += TEXTS * (fusion(tokens, folds=False) + VQA_HEAD) + need_reconstruction * TEXTS * N * L * D**2
    assert multiply_adds(counter) == expected
    assert rows["text"] == [TEXTS] and rows["vision.patch_embed"] == [IMAGES]
    for block in range(L):
        assert rows[f"vision.blocks.{block}"] == [IMAGES, TEXTS]
        assert rows[f"vision.decoders.{block}.transform"] == [IMAGES]
        assert rows[f"vision.decoders.{block}.reconstruct"] == [IMAGES] + [TEXTS] * need_reconstruction


@pytest.mark.parametrize("need_gradient", [False, True])
def test_a_signal_that_all_tokens_share_costs_one_vector_per_text(images, need_gradient):
    model, tokens = make_model(*VARIANTS[1], ANSWERS), 8
    with torch.set_grad_enabled(need_gradient), flop_counter() as counter:
        model(images, *texts(tokens), IMAGE_INDEX)
    along_prior, feedback, values = TEXTS * N * D, TEXTS * 2 * L * D**2, TEXTS * L * D**2
    look = TEXTS * (L * BLOCK + (L - 1) * 3 * VALUES) + along_prior + feedback + values
    rest = TEXTS * (text_encoder(tokens) + PRIOR + fusion(tokens, folds=not need_gradient) + VQA_HEAD)
    assert multiply_adds(counter) == IMAGES * FIRST_LOOK + look + rest


def test_the_backward_pass_computes_nothing_anew_but_attention_weights(model, images):
    inputs, tokens = (images, *texts(8), IMAGE_INDEX), 8
    with flop_counter() as forward:
        out = model(*inputs, need_reconstruction=True)
        loss = out.logits.sum() + out.reconstruction
    with flop_counter() as backward:
        loss.backward()
    # Gradients of weights and of inputs cost a forward pass each. Pixels need none, nor does what the reconstruction
    # starts from; the kernel of attention, of two products, computes the first of them again.
    anew = IMAGES * L * ATTENTION // 2 + TEXTS * L * ATTENTION // 2 + TEXTS * TEXT_LAYERS * tokens**2 * W
    for queries, context in ((tokens, tokens), (tokens, N), (N, N), (N, tokens)):
        anew += TEXTS * (FUSION_LAYERS - 1) * queries * context * F
    anew += TEXTS * (tokens + N + N + tokens) * F  # the last layer's two queries
    assert multiply_adds(backward) == 2 * multiply_adds(forward) - IMAGES * EMBEDDING - TEXTS * N * L * D**2 + anew


@torch.no_grad()
def test_a_pair_of_a_gallery_costs_a_second_look_and_fusion_alone():
    model, captions, batch_size = make_model(*VARIANTS[0]), 7, 3
    gallery = SyntheticGallery(IMAGES, captions, resolution=32, vocabulary=100)
    model.vision.fold()
    with rows_through(model) as rows:
        with flop_counter() as counter:
            scorer = GalleryScorer(model, gallery, batch_size, Progress(disable=True))
        assert multiply_adds(counter) == sum(text_encoder(int(length)) + PRIOR for length in gallery.lengths)
        scorer.compare(keep=True, num_workers=0)
        assert sum(rows["text"]) == captions and max(rows["text"]) <= batch_size
        assert rows["vision.patch_embed"] == [IMAGES]
        assert all(rows[f"vision.blocks.{block}"] == [IMAGES] for block in range(L)) and not rows["fusion"]
    listed = np.zeros((IMAGES, captions), dtype=bool)
    listed[0, :3] = listed[1, 4:] = True
    with rows_through(model) as rows, signals_of(model) as signals, flop_counter() as counter:
        scorer.judge(listed)
    assert not rows["text"] and not rows["prior"] and not rows["vision.patch_embed"]
    assert all(rows[f"vision.blocks.{block}"] == [3, 3] for block in range(L))
    start = 3 * VALUES  # of the first block, which both looks share
    lengths = [int(gallery.lengths[row].max()) for row in listed]
    pairs = sum(3 * (fusion(tokens, folds=True) + MATCHING_HEAD) for tokens in lengths)
    feedback = sum(signals) * L * D**2
    assert multiply_adds(counter) == IMAGES * start + second_look(2 * 3, IMAGES) + feedback + pairs


@contextmanager
def signals_of(model: VLAbSViT) -> Iterator[list[int]]:
    """Tokens that have a signal, of every call of the second look."""
    seen, look_again = [], model.vision.look_again

    def watched(*args):
        looks = look_again(*args)
        seen.append(int(have_signal(looks.signals[0]).sum()))
        return looks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.vision, "look_again", watched)
        yield seen


def test_candidates_of_an_image_share_its_first_look_and_hard_negatives_are_not_encoded_again():
    model, false = make_model(*VARIANTS[0]).train(), 2
    config = RetrievalConfig(negatives=false, **nowhere())
    *samples, last = captioned_images(Workload(IMAGES + 1, 1 + false, resolution=32), words=100)
    samples.append(last._replace(image_id=samples[-1].image_id, image=samples[-1].image))
    with rows_through(model) as rows:
        RetrievalTask.without_data(config, model).losses(model, collate_retrieval(samples, pad_id=PAD))
    candidates, hard = len(samples) * (1 + false), 2 * len(samples)  # a caption and an image each
    assert rows["text"] == rows["prior"] == [candidates] and rows["vision.patch_embed"] == [IMAGES]
    assert all(rows[f"vision.blocks.{block}"] == [IMAGES, candidates + hard] for block in range(L))
    assert rows["fusion"] == [candidates + hard]
