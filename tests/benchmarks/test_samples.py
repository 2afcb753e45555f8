"""Made-up samples: as long as real texts, sharing images, the same for the same seed."""

import numpy as np

from benchmarks.samples import ANSWERS, Workload, question_lengths, questions_about


def test_questions_are_as_long_as_vqav2s():
    lengths = question_lengths(5000, np.random.default_rng(0))
    assert lengths.min() >= 5 and lengths.max() <= 22
    assert abs(lengths.mean() - 9.4) < 0.2 and abs(lengths.std() - 1.95) < 0.2


def test_questions_on_an_image_share_it():
    samples = questions_about(Workload(images=2, per_image=3, resolution=16))
    assert [sample.question_id for sample in samples] == list(range(6))
    assert [sample.image_id for sample in samples] == [0, 0, 0, 1, 1, 1]
    assert samples[0].image is samples[2].image and not samples[0].image.equal(samples[3].image)
    assert samples[0].image.shape == (3, 16, 16)
    for sample in samples:
        assert (
            sample.token_ids[0] == 0 and sample.token_ids[-1] == 2 and 0 < min(sample.scores) <= max(sample.scores) <= 1
        )
        assert len(set(sample.labels)) == len(sample.labels) == len(sample.scores) > 0 and max(sample.labels) < ANSWERS


def test_work_is_named_in_words():
    assert Workload(1, 1, 8).named("question") == "1 image x 1 question"
    assert Workload(2, 4, 8).named("caption") == "2 images x 4 captions"
