"""Vocabulary, soft targets and accuracy against counting by hand, and against each other."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties.profile import steady
from vl_absvit.data.answers import AnswerVocabulary, build_vocabulary, soft_targets
from vl_absvit.evaluation.vqa_accuracy import question_accuracy, vqa_scores

some_answers = st.lists(st.sampled_from(["yes", "no", "", "red", "2", "Σ", "cat"]), max_size=60)
ten_answers = st.lists(st.sampled_from("bcde"), min_size=10, max_size=10)


@steady
@given(some_answers, st.integers(1, 12))
def test_a_vocabulary_holds_what_counting_finds_in_its_order(answers, min_count):
    frequent = {answer for answer in answers if sum(other == answer for other in answers) >= min_count}
    by_count = build_vocabulary(Counter(answers), min_count)
    assert set(by_count) == frequent and len(by_count) == len(frequent)
    for earlier, later in zip(by_count, by_count[1:], strict=False):
        assert (-answers.count(earlier), earlier) < (-answers.count(later), later)
    first_seen = build_vocabulary(Counter(answers), min_count, order="first_seen")
    assert first_seen == sorted(frequent, key=answers.index)


@steady
@given(some_answers, st.integers(1, 12), st.randoms(use_true_random=False))
def test_the_order_of_the_questions_does_not_change_it(answers, min_count, random):
    shuffled = random.sample(answers, len(answers))
    assert build_vocabulary(Counter(shuffled), min_count) == build_vocabulary(Counter(answers), min_count)


@steady
@given(ten_answers, st.sets(st.sampled_from("bcdef")))
def test_a_soft_score_is_three_tenths_for_each_who_agrees(answers, known):
    index = {answer: label for label, answer in enumerate(sorted(known))}
    labels, scores = soft_targets(answers, index)
    assert sorted(labels) == sorted({index[answer] for answer in answers if answer in index})
    for label, score in zip(labels, scores, strict=True):
        agreeing = sum(index.get(answer) == label for answer in answers)
        assert score == [0.0, 0.3, 0.6, 0.9][agreeing] if agreeing < 4 else score == 1.0


@steady
@given(ten_answers)
def test_a_soft_score_is_the_accuracy_of_giving_that_answer(answers):
    labels, scores = soft_targets(answers, {letter: label for label, letter in enumerate("bcde")})
    for label, score in zip(labels, scores, strict=True):
        assert question_accuracy("bcde"[label], answers) == pytest.approx(score)


@settings(steady, max_examples=15)
@given(st.lists(st.text(), min_size=1, unique=True), st.integers(1, 99), st.sampled_from(["vqa-official-1", "meter-1"]))
def test_what_is_saved_is_loaded_whatever_the_answers_are(answers, min_count, normaliser):
    vocabulary = AnswerVocabulary(tuple(answers), min_count, normaliser)
    with tempfile.TemporaryDirectory() as folder:
        vocabulary.save(Path(folder) / "answers.json")
        assert AnswerVocabulary.load(Path(folder) / "answers.json") == vocabulary


@steady
@given(st.lists(st.tuples(ten_answers, st.sampled_from("bcde")), min_size=1, max_size=8), st.randoms())
def test_a_score_is_the_mean_of_its_questions_in_whatever_order_they_are_answered(questions, random):
    annotations = [
        {"question_id": number, "question_type": "is", "answer_type": "other", "answers": answers}
        for number, (answers, _) in enumerate(questions)
    ]
    predictions = [{"question_id": number, "answer": answer} for number, (_, answer) in enumerate(questions)]
    scores = vqa_scores(annotations, random.sample(predictions, len(predictions)))
    assert scores == vqa_scores(annotations, predictions)
    accuracies = [question_accuracy(answer, answers) for answers, answer in questions]
    assert scores.overall == pytest.approx(100 * sum(accuracies) / len(accuracies), abs=0.0051)
    assert scores.per_answer_type == {"other": scores.overall} and scores.per_question_type == {"is": scores.overall}
