"""Make one web page of an attention export: every question, caption or picture with what the model says, and its maps.

vl-absvit attention-report --maps DIR --output report.html [--limit 100] [--show prior_mask cross] [--hat OUT]
vl-absvit attention-report --maps DIR --output report.html --fixations OUT

The page is one file; it opens from disk and asks nothing of any network. With --hat or --fixations it also shows where
people looked, and how well the first of the shown maps agrees with them.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vl_absvit.cli import OptionParser, progress, run_main
from vl_absvit.data.fixations import read_looked_at
from vl_absvit.data.json_files import make_room
from vl_absvit.data.vqa_hat import HumanMaps, read_hat_questions, read_human_maps
from vl_absvit.errors import InputError
from vl_absvit.evaluation.attention_agreement import area_average, consensus, human_on_grid, rank_vector
from vl_absvit.looking.export_matching import match_files
from vl_absvit.looking.export_reader import Exported, ExportedQuestion, kind_of, read_exported, read_index
from vl_absvit.looking.report_page import SHOWN_AT_FIRST, TITLES, choose_shown, in_order, write_report

DRAWN_ON = (32, 32)
"""Cells on which the human maps of one question, each of its own size, are averaged for the page."""


class People(NamedTuple):
    """Where people looked, by a record's id, and how well a map agrees with them."""

    maps: dict[str, np.ndarray]  # mean of a question's human maps, over the whole picture
    agreement: dict[str, float]  # mean rank correlation with each of them


def main() -> None:
    arguments = parse_arguments()
    make_room(arguments.output)
    entries = read_index(arguments.maps, "question" if arguments.hat else None)
    chosen, texts = entries[: arguments.limit], f"{kind_of(entries[0])}s"
    notes = []
    if len(chosen) < len(entries):
        notes.append(f"The first {len(chosen):,} of {len(entries):,} exported {texts}.")
    with progress() as bar:
        tracked = bar.track(chosen, description="reading")
        records = [read_exported(arguments.maps, entry, arguments.images) for entry in tracked]
    show = choose_shown(in_order(kind for record in records for kind in record.maps), arguments.show)
    people = People({}, {})
    if arguments.hat:
        questions = [record for record in records if isinstance(record, ExportedQuestion)]
        check_same_questions(questions, arguments.hat)
        people = compare(questions, read_human_maps(arguments.hat), show[0])
        notes.append(
            f"{len(people.maps):,} questions have human maps. Agreement is the rank correlation of "
            f"“{TITLES.get(show[0], show[0])}” with them, in the part of the picture that the model sees."
        )
    if arguments.fixations:
        people = compare_fixations(records, arguments.fixations, show[0])
        notes.append(
            f"{len(people.maps):,} pictures have fixations, all of which are kept. Agreement is the NSS of "
            f"“{TITLES.get(show[0], show[0])}”, in the part of the picture that the model sees."
        )
    with progress() as bar:
        embedded = bar.track(records, description="embedding")
        report = write_report(embedded, arguments.output, *people, note=" ".join(notes), show=show)
    counts = [f"{report.texts:,} {texts}"] * (texts != "pictures") + [f"{report.pictures:,} pictures"]
    print(f"{', '.join(counts)}, {report.size / 1e6:.1f} MB: {arguments.output}")
    for note in notes:
        print(note)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    parser.add_argument("--maps", required=True, metavar="DIR", help="folder written by vl-absvit export-attention")
    parser.add_argument(
        "--images", metavar="DIR", help="folder of the pictures, if they are neither where they were nor moved with DIR"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="page to write, such as report.html")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N texts or pictures of the export")
    parser.add_argument(
        "--show",
        nargs="+",
        metavar="MAP",
        help=f"maps to show when the page is opened; it holds all of them (default: {' '.join(SHOWN_AT_FIRST)})",
    )
    parser.add_argument("--hat", metavar="OUT", help="human maps, a folder written by vl-absvit prepare-vqa-hat")
    parser.add_argument("--fixations", metavar="OUT", help="fixations, a folder of vl-absvit prepare-fixations")
    arguments = parser.parse_args()
    if arguments.hat and arguments.fixations:
        parser.error("give one of --hat and --fixations")
    if arguments.limit is not None and arguments.limit < 1:
        parser.error("--limit must be at least 1")
    return arguments


def check_same_questions(questions: Sequence[ExportedQuestion], hat: str | Path) -> None:
    """Refuse human maps of other questions: VQA-HAT is about VQA v1, whose ids mean something else in VQAv2.

    Raises:
        InputError: an id stands for another question there, or people were asked none of the questions.
    """
    asked = {question.question_id: question for question in read_hat_questions(hat)}
    shared = [
        (question, asked[question.question_id])
        for question in questions
        if question.question_id is not None and question.question_id in asked
    ]
    for ours, theirs in shared:
        if (ours.image_id, ours.question) != (theirs.image_id, theirs.question):
            raise InputError(
                f"{hat}: question {ours.question_id} is {theirs.question!r:.80} about image {theirs.image_id} there, "
                f"and {ours.question!r:.80} about image {ours.image_id} in the export"
            )
    if not shared:
        raise InputError(f"{hat}: people were asked none of the {len(questions):,} exported questions")


def compare(questions: Sequence[ExportedQuestion], human: Iterable[HumanMaps], kind: str) -> People:
    """The human maps of the questions, and how well one kind of map agrees with them.

    Only the part of the picture that the model sees is compared; what is constant there ranks nothing and is left out.
    """
    asked = {question.question_id: question for question in questions if question.question_id is not None}
    people = People({}, {})
    for question_id, maps in human:
        question = asked.get(question_id)
        if question is None:
            continue
        people.maps[question.id] = np.mean([area_average(grey, DRAWN_ON) for grey in maps], axis=0)
        seen = [human_on_grid(grey, question.box, question.image_size) for grey in maps]
        seen = [grid for grid in seen if grid.min() < grid.max()]
        if seen and kind in question.maps:
            looked = rank_vector(area_average(question.maps[kind]))
            people.agreement[question.id] = float(looked @ consensus(seen))
    return people


def compare_fixations(records: Sequence[Exported], folder: str, kind: str) -> People:
    """Densities of the fixations on the exported pictures, and NSS of one kind of map.

    Raises:
        InputError: none of the pictures has fixations, or one has another size.
    """
    from vl_absvit.evaluation.fixation_comparison import DENSITY_SIGMA, Fixations
    from vl_absvit.evaluation.fixation_metrics import density_of, nss
    from vl_absvit.evaluation.map_on_picture import on_pixels

    pictures = read_looked_at(folder)
    entries = [{"image": record.image.as_posix()} for record in records]
    people = People({}, {})
    for record, row in zip(records, match_files(entries, [picture.file for picture in pictures], folder), strict=True):
        if row is None:
            continue
        picture = pictures[row]
        if picture.size != record.image_size:
            ours, theirs = (" x ".join(map(str, size)) for size in (record.image_size, picture.size))
            raise InputError(f"{folder}: {picture.file} has {theirs} pixels, the exported picture {ours}")
        width, height = picture.size
        people.maps[record.id] = density_of(picture.places, (height, width), DENSITY_SIGMA * max(picture.size))
        seen, _ = Fixations(picture.places, None, picture.size).seen(record.box)
        if len(seen.places) and kind in record.maps:
            values = on_pixels(record.maps[kind], record.box, picture.size)
            people.agreement[record.id] = nss(values, seen.places)
    if not people.maps:
        raise InputError(f"{folder}: has fixations on none of the {len(records):,} exported pictures")
    return people


if __name__ == "__main__":
    run_main(main)
