"""Questions of one's own: scores by the number of answers, splits by picture, and every refused row accounted for."""

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from tests.prepare.own.own_shop import write_lines, write_pictures
from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.records import ImageTable, read_annotations, read_manifest, read_vocabulary
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.evaluation.accuracy_rules import accuracy_rule
from vl_absvit.prepare.own.questions import OwnQuestionOptions, prepare_own_questions


@pytest.fixture
def prepare(tmp_path):
    """Prepare pictures and a table of these rows, or tables by their ``SPLIT=FILE``; the manifest."""
    write_pictures(tmp_path, 4)

    def run(rows=None, output="out", **options):
        if rows is not None:
            options["table"] = [str(write_lines(tmp_path / "t.jsonl", rows))]
        options = {"name": "shop", "images": tmp_path / "pictures", **options}
        return prepare_own_questions(OwnQuestionOptions(**options), tmp_path / output, workers=1)

    return run


@pytest.fixture
def rows_of(tmp_path):
    return lambda split, output="out": pq.read_table(tmp_path / output / f"{split}.parquet").to_pylist()


def refused(tmp_path):
    return [json.loads(line) for line in (tmp_path / "out/refused.jsonl").read_text().splitlines()]


def row(picture, question="What?", answer="box", **more):
    return {"image": f"{picture}.jpg", "question": question, "answer": answer} | more


def test_the_score_of_an_answer_is_its_share(prepare, rows_of, tmp_path):
    rows = [
        row(0, split="train"),
        row(1, answer=["Yes", "yes ", "no"], split="train"),
        row(2, answer=["a", "b", "c", "d", "d"], split="train"),
        row(3, answer="[true, 3]", split="val"),
    ]
    manifest = prepare(rows)
    targets = [dict(zip(each["labels"], each["scores"], strict=True)) for each in rows_of("train")]
    answers = AnswerVocabulary.load(tmp_path / "out/answers.json").answers
    named = [{answers[label]: score for label, score in each.items()} for each in targets]
    assert named == [
        {"box": 1},
        {"yes": 1, "no": 1},
        {"a": pytest.approx(0.6), "b": pytest.approx(0.6), "c": pytest.approx(0.6), "d": 1},
    ]
    assert rows_of("val")[0]["answers"] == ["true", "3"] and rows_of("val")[0]["labels"] == []
    assert manifest["accuracy"] == "share" and manifest["answers_per_question"] == {"1": 1, "2": 1, "3": 1, "5": 1}
    assert (manifest["dataset"], manifest["kind"], manifest["own"]) == ("shop", "vqa", True)
    assert read_vocabulary(tmp_path / "out").normaliser == "plain-1"
    assert read_annotations(tmp_path / "out", ["train"])[0]["answers"] == ["box"]


def test_ten_answers_a_question_are_scored_officially(prepare, rows_of):
    manifest = prepare([row(n, answer=["The Two!"] * 3 + ["2"] * 1 + ["three"] * 6) for n in range(4)])
    assert manifest["accuracy"] == "official"
    assert [each["scores"] for each in rows_of("train")] == [[1.0, 1.0]] * 3  # "the two" is 2: four of ten
    mixed = prepare([row(0, answer=["yes"] * 10), row(1, answer="yes")], "mixed", val_share=0.0)
    assert mixed["accuracy"] == "share"
    assert "1 questions have not ten answers: the accuracy on all of them is not the official one" in mixed["warnings"]


def test_refused_rows_are_counted_and_listed_with_their_lines(prepare, tmp_path):
    rows = [row(0), row(1), row(2), row("../secret"), {"question": "What?", "answer": "x"}, row(3, question=" ")]
    rows += [row(3, answer=""), row(3, answer="word " * 1000), row(0), row(1, answer="hat"), row(3, answer={"yes": 1})]
    manifest = prepare(rows)
    found = refused(tmp_path)
    assert {each["line"]: each["reason"] for each in found} == {
        4: "a picture outside the folder of pictures",
        5: "no picture",
        6: "no question",
        7: "no answer",
        8: "an answer of more than 200 characters",
        9: "a row that repeats an earlier one",
        10: "a row that contradicts an earlier one",
        11: "a cell that is neither text nor a number",
    }
    assert {each["file"] for each in found} == {"t.jsonl"} and found[-1]["found"] == "t.jsonl: line 2"
    assert manifest["rows"] == 11 and sum(manifest["refused_rows"].values()) == 8
    assert sum(counts["questions"] for counts in manifest["splits"].values()) == 3
    assert (
        "8 of 11 rows are refused: " in manifest["warnings"][0]
        and "1 x no question (t.jsonl: line 6)" in manifest["warnings"][0]
    )


def test_no_picture_is_in_two_drawn_splits(prepare, rows_of):
    rows = [row(n % 4, question=f"What {n}?") for n in range(12)]
    manifest = prepare(rows, val_share=0.25, test_share=0.25)
    images = {split: {each["image_id"] for each in rows_of(split)} for split in manifest["splits"]}
    assert {split: len(ids) for split, ids in images.items()} == {"train": 2, "val": 1, "test": 1}
    assert len(set.union(*images.values())) == 4
    assert prepare(rows[::-1], "again", val_share=0.25, test_share=0.25)["splits"] == manifest["splits"]
    other = {
        n: prepare(rows, f"seed{n}", seed=n) and {each["image_id"] for each in rows_of("val", f"seed{n}")}
        for n in range(4)
    }
    assert len(set(map(frozenset, other.values()))) > 1


def test_splits_come_from_files_or_a_column_and_shared_pictures_are_said(prepare, tmp_path):
    a, b = (
        write_lines(tmp_path / f"{name}.jsonl", rows)
        for name, rows in {"a": [row(0), row(1)], "b": [row(1, "Why?"), row(2)]}.items()
    )
    by_file = prepare(table=[f"train={a}", f"validation={b}"])
    assert "1 pictures are both in train and in val, e.g. 1.jpg" in by_file["warnings"][0]
    by_column = [row(0, split="train"), row(1, split="train"), row(1, "Why?", split="dev"), row(2, split="dev"), row(3)]
    assert prepare(by_column, "column")["splits"] == by_file["splits"]
    assert prepare(by_column, "column")["refused_rows"] == {"no split, which other rows have": 1}
    leak = prepare([*by_column[:4], row(0, split="val")], "leak")
    assert (
        leak["refused_rows"] == {"a row that repeats one of another split": 1} and leak["splits"] == by_file["splits"]
    )
    with pytest.raises(InputError, match="--val-share and --test-share divide pictures that have no split"):
        prepare(by_column, "other", val_share=0.1)
    with pytest.raises(ConfigError, match=f"--table: others have a split; expected SPLIT={b}, got {b}"):
        prepare(table=[f"train={a}", str(b)])
    assert prepare(table=[f"train={write_lines(tmp_path / 'c.jsonl', by_column[:2] + by_column[3:])}"], output="c")[
        "refused_rows"
    ] == {"another split than its table's": 1}


def test_ids_that_are_numbers_are_kept_and_others_are_beside_them(prepare, rows_of):
    prepare(
        [row(0, question_id=70), row(0, question_id="9"), row(0, question_id=70, answer="hat"), row(1)], val_share=0.0
    )
    assert [each["question_id"] for each in rows_of("train")] == [9, 70]
    manifest = prepare([row(0, question_id="q1"), row(1, question_id="007")], "text", val_share=0.0)
    assert [(each["question_id"], each["own_id"]) for each in rows_of("train", "text")] == [(1, "q1"), (2, "007")]
    assert [each["source"] for each in rows_of("train", "text")] == ["t.jsonl: line 1", "t.jsonl: line 2"]
    assert "ids are no numbers everywhere" in manifest["warnings"][-1]


def test_the_vocabulary_is_counted_in_train_alone(prepare, tmp_path):
    rows = [
        row(0, split="train"),
        row(1, split="train"),
        row(2, answer="rare", split="train"),
        row(3, answer="rare", split="val"),
    ]
    assert prepare(rows, min_count=2)["splits"]["train"]["with_target"] == 2
    assert AnswerVocabulary.load(tmp_path / "out/answers.json").answers == ("box",)
    assert prepare(rows[3:], "val")["vocabulary"]["size"] == 1
    with pytest.raises(InputError, match="no answer occurs 3 times, the most frequent one 2 times; lower --min-count"):
        prepare(rows, "three", min_count=3)


def test_a_split_may_have_no_answers(prepare, rows_of):
    manifest = prepare([row(0, split="train"), {"image": "1.jpg", "question": "Why?", "split": "test"}])
    assert [counts["annotated"] for counts in manifest["splits"].values()] == [True, False]
    assert "answers" not in rows_of("test")[0] and not manifest["refused_rows"]
    unanswered = prepare([{"image": "1.jpg", "question": "Why?", "split": "test"}], "asked")
    assert unanswered["vocabulary"] is None and "no row has an answer" in unanswered["warnings"][0]


def test_missing_and_bad_pictures_are_those_of_every_preparation(prepare, tmp_path):
    (tmp_path / "pictures/3.jpg").write_bytes(b"no picture")
    rows = [row(0), row(1), row("gone"), row(3)]
    with pytest.raises(InputError, match="1 images are missing, the first is .*/gone.jpg .*--allow-missing-images"):
        prepare(rows)
    manifest = prepare(rows, allow_missing_images=True, val_share=0.0)
    assert [each["file"] for each in manifest["skipped_images"]] == ["3.jpg"] and manifest["missing_images"] == 1
    assert manifest["splits"]["train"] | {} == {
        "questions": 3, "without_image": 1, "with_target": 3, "kept_for_training": 2, "images": 3, "annotated": True,
    }  # fmt: skip
    assert ImageTable(tmp_path / "out").available.tolist() == [1, 2]


def test_other_tables_or_options_want_another_folder(prepare, tmp_path):
    first = prepare([row(0), row(1)])
    assert prepare([row(0), row(1)]) == first
    for change in (
        {"rows": [row(0), row(2)]},
        {"rows": [row(0), row(1)], "min_count": 2},
        {"rows": [row(0), row(1)], "name": "b"},
    ):
        with pytest.raises(InputError, match="was prepared from other"):
            prepare(**change)
    assert Counter(path.suffix for path in (tmp_path / "out").iterdir()) == {".parquet": 3, ".json": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "picture,question\na,b\n",
            "t.csv: has no column for the image, image or .*--columns image=COLUMN says which it is",
        ),
        ("image,ask\n0.jpg,b\n", "t.csv: has no column for the question, question or query; it has image, ask"),
        (
            "image,question,answer\n/etc/passwd,b,c\n",
            "no question is left: 1 of 1 rows are refused: 1 x a picture outside",
        ),
        ("image,question,answer\n", "no question is left"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(prepare, tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        prepare(table=[str(tmp_path / "t.csv")])
    assert not (tmp_path / "out").exists()


def test_a_table_without_a_header_has_picture_question_answer(prepare, rows_of, tmp_path):
    (tmp_path / "t.csv").write_text('0.jpg,"What, now?",box\n1.jpg,Why?,hat\n')
    prepare(table=[str(tmp_path / "t.csv")], no_header=True, val_share=0.0)
    assert [(each["question"], each["answers"]) for each in rows_of("train")] == [
        ("What, now?", ["box"]),
        ("Why?", ["hat"]),
    ]
    prepare(
        table=[str(tmp_path / "t.csv")], no_header=True, columns=["answer=2", "question=3"], val_share=0.0, output="b"
    )
    assert rows_of("train", "b")[0]["answers"] == ["What, now?"]


def test_a_given_vocabulary_is_kept_and_says_how_answers_are_compared(prepare, rows_of, tmp_path):
    """A checkpoint's answers: VQAv2's know "2" for "two", the plain ones do not."""
    answers = ("yes", "2", "red")
    AnswerVocabulary(answers, min_count=9, normaliser="vqa-official-1").save(tmp_path / "answers.json")
    rows = [
        row(0, answer="Two", split="train"),
        row(1, answer="blue", split="train"),
        row(2, answer="Yes", split="val"),
    ]
    manifest = prepare(rows, vocabulary=tmp_path / "answers.json")
    assert read_vocabulary(tmp_path / "out").answers == answers
    assert [each["labels"] for each in rows_of("train") + rows_of("val")] == [[1], [], [0]]
    assert manifest["splits"]["train"]["with_target"] == 1 and "red" in str(manifest["warnings"])
    rule = accuracy_rule(manifest)
    assert (rule.metric, rule.of_question("2", ["Two"])) == ("share_accuracy", 1) and "evaluator" in rule.words
    prepare(rows, "counted")
    assert accuracy_rule(read_manifest(tmp_path / "counted")).of_question("2", ["Two"]) == 0


def test_a_vocabulary_that_cannot_be_used_is_one_line(prepare, tmp_path):
    (tmp_path / "other.json").write_text('["left", "right"]')
    with pytest.raises(InputError, match="other.json: none of its 2 answers, such as 'left', .* such as 'box'"):
        prepare([row(0), row(1)], vocabulary=tmp_path / "other.json")
    with pytest.raises(ConfigError, match="--min-count counts answers, which --vocabulary .*; leave one out"):
        prepare([row(0), row(1)], vocabulary=tmp_path / "other.json", min_count=2)


def test_another_vocabulary_wants_another_folder(prepare, tmp_path):
    for name, answers in (("one", ("box",)), ("two", ("box", "bag"))):
        AnswerVocabulary(answers, min_count=1, normaliser="plain-1").save(tmp_path / f"{name}.json")
    rows = [row(0), row(1)]
    first = prepare(rows, vocabulary=tmp_path / "one.json")
    assert prepare(rows, vocabulary=tmp_path / "one.json") == first
    with pytest.raises(InputError, match="vocabulary"):
        prepare(rows, vocabulary=tmp_path / "two.json")
