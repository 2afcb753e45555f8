"""Made-up samples: as long as real texts, sharing images, the same for the same seed."""

import numpy as np

from benchmarks.samples import ANSWERS, Workload, captioned_images, question_lengths, questions_about


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


def test_an_image_has_as_many_captions_as_asked_for():
    samples = captioned_images(Workload(images=2, per_image=4, resolution=16), words=9)
    assert [(sample.caption_id, sample.image_id, len(sample.texts)) for sample in samples] == [(0, 0, 4), (1, 1, 4)]
    assert all(max(text) < 9 for sample in samples for text in sample.texts)


def test_samples_depend_on_the_seed_alone():
    work = Workload(2, 2, 16)
    first, again, other = (questions_about(work, seed=seed) for seed in (0, 0, 1))
    assert [s.token_ids for s in first] == [s.token_ids for s in again] != [s.token_ids for s in other]
    assert first[0].image.equal(again[0].image) and not first[0].image.equal(other[0].image)


def test_work_is_named_in_words():
    assert Workload(1, 1, 8).named("question") == "1 image x 1 question"
    assert Workload(2, 4, 8).named("caption") == "2 images x 4 captions"
