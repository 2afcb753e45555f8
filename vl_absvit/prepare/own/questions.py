"""Questions and answers of one's own, from tables to the folder that training reads."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vl_absvit.data.answers import SOFT_SCORE, AnswerVocabulary
from vl_absvit.data.records import VQA
from vl_absvit.data.strict_json import shown
from vl_absvit.data.whole_folder import fingerprint
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.check_images import Images
from vl_absvit.prepare.own.columns import IMAGE
from vl_absvit.prepare.own.names import check_name
from vl_absvit.prepare.own.options import TableOptions
from vl_absvit.prepare.own.refusals import Fault
from vl_absvit.prepare.own.rows import OwnRow, in_several_splits, read_rows, splits_of
from vl_absvit.prepare.own.source import OwnSource, train_first
from vl_absvit.prepare.own.values import text_of, texts_of
from vl_absvit.prepare.prepare import Content, Records, prepare
from vl_absvit.prepare.tables import QUESTION_SCHEMA, table_of, write_table
from vl_absvit.prepare.vqa_source import ANSWERS_PER_QUESTION, NOT_SAID, most_frequent
from vl_absvit.prepare.vqa_tables import ANNOTATION_SCHEMA, count_questions, with_labels
from vl_absvit.prepare.vqa_vocabulary import OWN, RULES, check_any_occurs, never_targets, rule_of

LONGEST_ANSWER = 200
"""In characters; predictions cannot be longer either."""
_ROLES = {
    "image": IMAGE,
    "question": ("question", "query"),
    "answer": ("answers", "answer", "label"),
    "split": ("split",),
    "question_id": ("question_id", "qid"),
    "question_type": ("question_type",),
    "answer_type": ("answer_type",),
}
_WITHOUT_HEADER = {"image": ("1",), "question": ("2",), "answer": ("3",)}
_ORIGIN = [pa.field("source", pa.string()), pa.field("own_id", pa.string())]
"""Further columns: the row that a question is from, and its id there where ids are no numbers."""


@dataclass(frozen=True, kw_only=True)
class OwnQuestionOptions(TableOptions):
    """``TableOptions`` of questions."""

    min_count: int = 1
    """Answers of the vocabulary are given to this many training questions."""
    vocabulary: Path | None = None
    """Taken in place of counting, with its way of normalising answers: a checkpoint's ``answers.json``, or a published
    one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.name, "--name")
        if self.min_count < 1:
            raise ConfigError(f"--min-count must be at least 1, got {self.min_count}")
        if self.vocabulary is not None and self.min_count > 1:
            raise ConfigError(f"--min-count counts answers, which --vocabulary {self.vocabulary} names; leave one out")


class Asked(NamedTuple):
    """A question of a row."""

    row: OwnRow
    question: str
    answers: list[str]  # none where the row has none
    own_id: str | None
    types: list[str]  # of the question, and of its answer


def prepare_own_questions(options: OwnQuestionOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest. A finished ``output`` is only compared with the request.

    Raises:
        InputError: tables or pictures have a fault, or ``output`` was made with other options or from other tables.
    """
    return prepare(OwnQuestions(options), options.image_folder(), output, workers)


class OwnQuestions(OwnSource):
    """Questions of one's own, with answers in splits that have them."""

    row_type = "questions"
    roles, without_header = _ROLES, _WITHOUT_HEADER

    def __init__(self, options: OwnQuestionOptions) -> None:
        """
        Raises:
            InputError: the given vocabulary cannot be used.
        """
        super().__init__(options)
        self._options = options
        self._given = AnswerVocabulary.from_published(options.vocabulary) if options.vocabulary else None

    def request(self) -> dict[str, Any]:
        """The folder of pictures, the options and the content of the tables and of a given vocabulary."""
        request = self._options.request(VQA, not_settings=["vocabulary"])
        if self._options.vocabulary:
            request["options"]["vocabulary"] = fingerprint(self._options.vocabulary)["sha256"]
        return request

    def read(self) -> Records:
        """The questions of every split, in the order of their rows; refused rows are kept for ``write``."""
        asked = list(self._read_all())
        self._rows = len(asked) + len(self._refusals)
        self._columns.check("image", "question")
        asked = self._once(self._answered(asked))
        if not asked:
            raise InputError(f"no question is left: {self._refusals.words(self._rows)}")
        split_of = splits_of([each.row for each in asked], self._options, self._refusals)
        asked = [each for each in asked if each.row.place in split_of]
        by_split: dict[str, list[int]] = {}
        for number, each in enumerate(asked):
            by_split.setdefault(split_of[each.row.place], []).append(number)
        files = {file: number for number, file in enumerate(sorted({each.row.file for each in asked}), start=1)}
        ids = self._ids(asked)
        tables = {
            split: table_of(
                _rows([asked[n] for n in by_split[split]], [ids[n] for n in by_split[split]], files), _SCHEMA, split
            )
            for split in train_first(by_split)
        }
        warnings = self.warnings()
        warnings += in_several_splits({split: (asked[n].row.file for n in by_split[split]) for split in tables})
        self._count_answers(asked)
        return Records(self._labelled(tables), {number: file for file, number in files.items()}, warnings)

    def _read_all(self) -> Iterator[Asked]:
        for row in read_rows(self._options, self._columns, self._refusals):
            try:
                yield _asked(row)
            except Fault as fault:
                self._refusals.add(row.place, fault)

    def _answered(self, asked: Sequence[Asked]) -> Iterator[Asked]:
        """The questions, but those without an answer in splits that have answers."""
        with_answers = {each.row.split for each in asked if each.answers}
        for each in asked:
            if each.answers or each.row.split not in with_answers:
                yield each
            else:
                self._refusals.add(each.row.place, Fault("no answer"))

    def _once(self, asked: Iterable[Asked]) -> list[Asked]:
        """The questions, each once: the first of several with one id, or about one picture where there are no ids."""
        asked = list(asked)
        have_ids = any(each.own_id is not None for each in asked)
        first: dict[Any, Asked] = {}
        for each in asked:
            if have_ids and each.own_id is None:
                self._refusals.add(each.row.place, Fault("no question_id, which other rows have"))
                continue
            key = each.own_id if have_ids else (each.row.file, each.question)
            earlier = first.setdefault(key, each)
            if earlier is not each:
                self._refusals.add(each.row.place, Fault(_repetition(earlier, each), str(earlier.row.place)))
        return list(first.values())

    def _ids(self, asked: Sequence[Asked]) -> list[int]:
        """Question ids: the tables' own where all are numbers, else 1, 2, and so on."""
        own = [each.own_id for each in asked]
        self._ids_are_numbers = all(text is not None and _is_id(text) for text in own)
        return [int(text or 0) for text in own] if self._ids_are_numbers else list(range(1, len(asked) + 1))

    def _count_answers(self, asked: Sequence[Asked]) -> None:
        """Decide how answers are compared: as VQAv2's where every question has ten."""
        self._answers = Counter(len(each.answers) for each in asked if each.answers)
        self._is_official = self._answers.keys() == {ANSWERS_PER_QUESTION}
        self._rule = RULES[False] if self._is_official else OWN
        if self._given:
            self._rule = rule_of(self._given)

    def _labelled(self, tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
        """Tables with the labels of the vocabulary: the answers to training questions, or to all where none are.

        A given vocabulary is kept as it is.
        """
        answered = {split: table for split, table in tables.items() if any(table.column("answers").to_pylist())}
        counted = [answered["train"]] if "train" in answered else list(answered.values())
        given: Counter[str] = Counter()
        for table in counted:
            for answers in table.column("answers").to_pylist():
                given.update({self._rule.normalise(answer) for answer in answers})
        self._vocabulary = self._choose_vocabulary(given)
        labelled = {}
        for split, table in tables.items():
            if split in answered and self._vocabulary:
                labelled[split] = with_labels(table, self._vocabulary.index, self._rule.lookup)
            else:
                labelled[split] = table.drop_columns(ANNOTATION_SCHEMA.names[2:])
        return labelled

    def _choose_vocabulary(self, counts: Counter[str]) -> AnswerVocabulary | None:
        """The given vocabulary, or that of the frequent answers; None without either."""
        options = self._options
        if not self._given:
            return self._rule.frequent(counts, options.min_count, options.tables[0].path)
        assert options.vocabulary is not None, "it was read from there"
        if counts:
            check_any_occurs(self._given, counts, options.vocabulary)
        return self._given

    def write(self, folder: Path, records: Records, images: Images) -> Content:
        """One table per split that has questions, the vocabulary, and the refused rows."""
        splits = {
            split: table.filter(pa.array(images.are_usable(_image_ids(table))))
            for split, table in records.splits.items()
        }
        splits = {split: table for split, table in splits.items() if len(table)}
        for split, table in splits.items():
            write_table(folder / f"{split}.parquet", table)
        self._refusals.write(folder)
        if self._vocabulary:
            self._vocabulary.save(folder / "answers.json")
        warnings = self._remarks(splits)
        answered = {split: table for split, table in splits.items() if "labels" in table.column_names}
        if self._vocabulary and answered:
            warnings += never_targets(self._vocabulary, answered, self._rule)
        vocabulary = self._vocabulary
        more = {
            "own": True,
            "accuracy": "official" if self._is_official else "share",
            "soft_score": SOFT_SCORE,
            "normaliser": self._rule.normaliser,
            "answers_per_question": {str(number): count for number, count in sorted(self._answers.items())},
            "vocabulary": vocabulary and {"size": len(vocabulary), "sha256": vocabulary.sha256},
            **self.account(),
        }
        return Content({split: count_questions(table, images) for split, table in splits.items()}, warnings, more)

    def _remarks(self, splits: dict[str, pa.Table]) -> list[str]:
        found = []
        if not self._answers:
            nothing = "nothing to train on" if self._vocabulary else "no answers.json and nothing to train on"
            found.append(
                f"no row has an answer, so that there is {nothing}; "
                f"columns of answers are called {', '.join(_ROLES['answer'])}, or as --columns says"
            )
        elif "train" not in splits:
            found.append("there is no split called train: data.train_splits names those to train on")
        if self._answers and not self._is_official and ANSWERS_PER_QUESTION in self._answers:
            other = sum(self._answers.values()) - self._answers[ANSWERS_PER_QUESTION]
            found.append(
                f"{other:,} questions have not ten answers: the accuracy on all of them is not the official one"
            )
        if not self._ids_are_numbers and any(len(table.column("own_id").drop_null()) for table in splits.values()):
            found.append("ids are no numbers everywhere: questions are numbered, and own_id in the tables keeps theirs")
        return found


_SCHEMA = pa.schema([*QUESTION_SCHEMA, *list(ANNOTATION_SCHEMA)[2:], *_ORIGIN])


def _asked(row: OwnRow) -> Asked:
    """The question of a row.

    Raises:
        Fault: it has none, or an answer that cannot be one.
    """
    if "question" not in row.cells:
        raise Fault("no question")
    answers = texts_of(row.cells["answer"], "answer") if "answer" in row.cells else []
    longest = max(answers, key=len, default="")
    if len(longest) > LONGEST_ANSWER:
        raise Fault(f"an answer of more than {LONGEST_ANSWER} characters", f"{len(longest):,}: {shown(longest)}")
    own_id = text_of(row.cells["question_id"]) if "question_id" in row.cells else None
    types = [text_of(row.cells.get(kind, NOT_SAID)) for kind in ("question_type", "answer_type")]
    return Asked(row, text_of(row.cells["question"]), answers, own_id, types)


def _repetition(earlier: Asked, later: Asked) -> str:
    """What is wrong with the later of two rows that ask the same."""
    one, other = ((each.row.file, each.question, each.answers) for each in (earlier, later))
    if one != other:
        return "a row that contradicts an earlier one"
    is_same_split = earlier.row.split == later.row.split
    return "a row that repeats an earlier one" if is_same_split else "a row that repeats one of another split"


def _is_id(text: str) -> bool:
    return re.fullmatch("0|[1-9][0-9]{0,18}", text) is not None and int(text) < 2**63


def _rows(asked: Sequence[Asked], ids: Sequence[int], files: dict[str, int]) -> Iterator[tuple]:
    """Rows of ``_SCHEMA``, by id."""
    for number, each in sorted(zip(ids, asked, strict=True), key=lambda pair: pair[0]):
        common, place = most_frequent(each.answers) if each.answers else None, str(each.row.place)
        yield number, files[each.row.file], each.question, *each.types, common, each.answers, place, each.own_id


def _image_ids(table: pa.Table) -> np.ndarray:
    return table.column("image_id").to_numpy()
