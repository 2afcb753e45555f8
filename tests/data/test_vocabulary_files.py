"""Answer vocabularies of other people: every form gives the same answers, and what is none is refused in one line."""

import gzip
import json
import pickle

import pytest

from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.vocabulary_files import read_answers
from vl_absvit.errors import InputError

ANSWERS = ("net", "", "don't know", "2", "caf\u00e9")
ANSWER_TO_LABEL = {answer: label for label, answer in enumerate(ANSWERS)}
LABEL_TO_ANSWER = {str(label): answer for label, answer in enumerate(ANSWERS)}
BACKWARDS = sorted(ANSWER_TO_LABEL.items(), key=lambda pair: -pair[1])
RECORDS = [{"answer": answer, "label": label} for answer, label in BACKWARDS]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.json", json.dumps(ANSWERS)),
        ("trainval_ans2label.json", json.dumps(dict(BACKWARDS))),
        ("trainval_label2ans.json", json.dumps(LABEL_TO_ANSWER)),
        ("labels_as_text.json", json.dumps({answer: str(label) for answer, label in BACKWARDS})),
        ("answer_dict.json", json.dumps([ANSWER_TO_LABEL, LABEL_TO_ANSWER])),
        ("answer_dict_the_other_way.json", json.dumps([LABEL_TO_ANSWER, ANSWER_TO_LABEL])),
        ("config.json", json.dumps({"hidden_size": 8, "id2label": LABEL_TO_ANSWER, "label2id": ANSWER_TO_LABEL})),
        ("label2ans_ans2label.json", json.dumps({"label2ans": ANSWERS, "ans2label": ANSWER_TO_LABEL})),
        ("only_id2label_was_set.json", json.dumps({"id2label": LABEL_TO_ANSWER, "label2id": {"LABEL_0": 0}})),
        ("ans2label.json", json.dumps({"ans2label": ANSWER_TO_LABEL})),
        ("answer2label.txt", "".join(f"{json.dumps(record)}\n" for record in RECORDS)),
        ("answer2label.json", "\n".join(json.dumps(record) for record in RECORDS)),
        ("answer2label.jsonl", "\r\n\r\n".join(json.dumps(record) for record in RECORDS)),
        ("records.json", json.dumps(RECORDS)),
        ("list.txt", json.dumps(ANSWERS, indent=1)),
        ("answers_vqa.txt", "\n".join(ANSWERS)),
        ("windows.txt", "\r\n".join(ANSWERS) + "\r\n"),
        ("many_breaks_at_the_end.vocab", "\n".join(ANSWERS) + "\n\n\n"),
    ],
)
def test_every_form_gives_the_same_answers(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    assert read_answers(tmp_path / name) == read_answers(tmp_path / f"{name}.gz") == ANSWERS
    assert AnswerVocabulary.from_published(tmp_path / name).answers == ANSWERS


def test_answers_that_are_numbers_are_not_taken_for_labels(tmp_path):
    (tmp_path / "v.json").write_text(json.dumps({"0": 1, "1": 0, "2": 2}))
    assert read_answers(tmp_path / "v.json") == ("1", "0", "2")
    (tmp_path / "v.json").write_text(json.dumps({"0": "2", "1": "0"}))  # labels come first
    assert read_answers(tmp_path / "v.json") == ("2", "0")


def test_one_record_is_a_vocabulary_of_one(tmp_path):
    (tmp_path / "v.txt").write_text('{"answer": "yes", "label": 0}')
    assert read_answers(tmp_path / "v.txt") == ("yes",)


def test_our_own_file_keeps_what_it_says(tmp_path):
    ours = AnswerVocabulary(ANSWERS, 9, "meter-1")
    ours.save(tmp_path / "answers.json")
    assert AnswerVocabulary.from_published(tmp_path / "answers.json") == ours


def test_a_pickle_is_not_opened_but_the_line_that_converts_it_is_given(tmp_path):
    path = tmp_path / "trainval_label2ans.pkl"
    path.write_bytes(pickle.dumps(list(ANSWERS)))
    with pytest.raises(InputError, match=f'{path}: is a pickle, .* python -c "import json, pickle; ') as caught:
        read_answers(path)
    command = str(caught.value).split("python -c ")[1].strip('"')
    exec(command)  # noqa: S102
    assert read_answers(path.with_suffix(".json")) == ANSWERS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.txt", b"", "there are no answers"),
        ("v.txt", b"\n\n", "there are no answers"),
        ("v.txt", b"yes\nno\nyes\n", "the answer 'yes' occurs more than once"),
        ("v.txt", b"\x80\x04\x95", "expected JSON or lines of text in UTF-8"),
        ("v.npy", b"\x93NUMPY", "expected JSON or lines of text in UTF-8"),
        ("v.json", b"yes\nno\n", "expected JSON in UTF-8"),
        ("v.json", b'"yes"', "expected a list of answers or an object of labels, got a string"),
        ("v.txt", b'["yes", "no"', "expected JSON in UTF-8"),
        ("v.txt", b'{"answer": "yes", "label": 0}\nno', "v.txt:2: expected JSON"),
        (
            "v.txt",
            b'{"answer": "yes", "label": 0}\n{"answer": "no"}',
            'v.txt:2: expected {"answer": text, "label": num',
        ),
        ("v.txt", b'{"answer": "yes", "label": 0}\n{"answer": "no", "label": 2}', "expected the labels 0 to 1, each"),
        ("v.txt", b'{"answer": "yes", "label": 0}\n{"answer": "yes", "label": 1}', "'yes' occurs more than once"),
        ("v.json", b'{"yes": "first"}', "expected an integer label for the answer 'yes', got 'first'"),
        ("v.json", b'{"0": "net", "2": "red"}', "expected an integer label for the answer '0', got 'net'"),
        ("v.json", b'{"yes": 0, "no": true}', "expected an integer label for the answer 'no', got a boolean"),
        ("config.json", b'{"id2label": {"0": "LABEL_0", "1": "LABEL_0"}}', "'LABEL_0' occurs more than once"),
        (
            "v.json",
            b'{"label2ans": ["yes", "no"], "ans2label": {"yes": 1, "no": 0}}',
            "its two tables differ: the answer of label 0 is 'yes' and 'no'",
        ),
        ("v.json", b'[{"yes": 0, "no": 1}, {"0": "yes"}]', "the answer of label 1 is 'no' and nothing"),
        ("config.json", b'{"id2label": null}', "expected a list of answers or an object of labels, got null"),
        ("v.json.gz", b"yes", "expected a gzip file"),
    ],
)
def test_what_is_no_vocabulary_is_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        AnswerVocabulary.from_published(tmp_path / name)
    assert message in str(caught.value) and str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_published_answers_are_the_same_in_every_form(real_data, tmp_path):
    folder = real_data / "answer-vocab"
    answers = read_answers(folder / "lxmert_trainval_label2ans.json")
    assert len(answers) == 3129 and "" in answers
    assert answers == read_answers(folder / "lxmert_trainval_ans2label.json")
    assert set(answers) == set(read_answers(folder / "openvqa_answer_dict.json"))
    lines = "".join(f"{json.dumps({'answer': each, 'label': n})}\n" for n, each in enumerate(answers))
    (tmp_path / "answer2label.txt").write_text(lines)
    (tmp_path / "answers.txt").write_text("\n".join(answers) + "\n")
    assert read_answers(tmp_path / "answer2label.txt") == read_answers(tmp_path / "answers.txt") == answers
