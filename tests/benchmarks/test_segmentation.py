"""What is measured is the same: transformers' UPerNet on timm's ViT gives our logits on the same weights."""

import torch

from benchmarks.contest import NAIVE, OURS, Case
from benchmarks.segmentation import as_transformers, made_segmenter, sides_of, with_looks


@torch.no_grad()
def test_both_sides_give_the_same_logits_and_a_look_has_parts():
    ours, pixels = made_segmenter("tiny", 64, "none"), torch.randn(1, 3, 64, 64)
    sides = sides_of(as_transformers(ours, "tiny", 64), ours, pixels)
    theirs, own = sides[NAIVE](), sides[OURS]()
    assert theirs.shape == (1, 150, 64, 64)
    torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-5)
    case = with_looks(Case("one", 1, {}, {}), made_segmenter("tiny", 64, "absvit"), pixels)
    seen = []

    class Stage:
        def __init__(self, name):
            seen.append(name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    case.sides["absvit"](Stage)
    assert seen == ["first look", "second look", "heads"]
