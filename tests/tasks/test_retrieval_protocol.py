"""What a retrieval number means."""

import pytest

from vl_absvit.tasks.retrieval_protocol import is_zero_shot


@pytest.mark.parametrize(
    ("dataset", "trained_on", "expected"),
    [
        ("flickr30k", ["vqav2", "coco"], True),
        ("flickr30k", ["flickr30k"], False),
        ("flickr8k", ["flickr30k"], False),  # Flickr30K grew out of Flickr8k
        ("flickr30k", ["flickr8k"], False),
        ("coco", ["vqav2"], False),
        ("coco", ["flickr30k"], True),
        ("coco", [], True),
        ("shop", ["coco"], None),  # its pictures may be COCO's
        ("coco", ["coco", "shop"], False),
        ("coco", ["flickr30k", "shop"], None),
        ("shop", ["coco", "shop"], False),
        ("flickr30k", ["snli_ve"], False),
        ("flickr30k", ["visual_genome", "conceptual_captions"], True),
    ],
)
def test_zero_shot_means_images_never_trained_on(dataset, trained_on, expected):
    assert is_zero_shot(dataset, trained_on) is expected
