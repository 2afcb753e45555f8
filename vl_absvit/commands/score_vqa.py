"""Score VQA predictions as the official evaluator does, or check those for the evaluation server before they are sent.

vl-absvit score-vqa --annotations A.json[.gz] --questions Q.json[.gz] --results R.json --output scores.json
vl-absvit score-vqa --data OUT --split val --results R.json --output scores.json
vl-absvit score-vqa --validate test-dev --results R.json --questions v2_OpenEnded_mscoco_test2015_questions.json

--validate refuses a file unless it answers every question of the split once (train 443,757, val 214,354, and 447,793 of
test2015 for both test-dev and test-std), in plain JSON and UTF-8, with nothing else in it, each answer as those of the
vocabulary are written. It says how often and where something is wrong, and mends nothing.

--data takes the answers of a prepared folder, as of one's own questions. Where these have not ten answers each, the
score is not the official one, and scores.json says which it is.
"""

import argparse

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.data.json_files import form_name, read_json, write_json
from vl_absvit.errors import InputError
from vl_absvit.evaluation.submission import (
    QUESTIONS,
    SENT_AS,
    check_questions,
    check_submission,
    check_upload,
    question_ids,
    refuse,
)
from vl_absvit.evaluation.vqa_accuracy import check_annotations, vqa_scores


def main() -> None:
    args = parse_arguments()
    if args.validate:
        asked = check_questions(read_json(args.questions, dict), args.validate, source=args.questions)
        number, (subset, _) = check_upload(args.results, asked), QUESTIONS[SENT_AS[args.validate]]
        print(f"{number:,} answers, one to every question of {subset}")
        return
    if args.data:
        score_prepared(args)
        return
    annotations = read_list_under("annotations", args.annotations)
    check_annotations(annotations, source=args.annotations)
    annotated = [annotation["question_id"] for annotation in annotations]
    check_annotated(read_list_under("questions", args.questions), annotated, args.questions, args.annotations)
    predictions = read_json(args.results, list)
    check_submission(predictions, annotated, source=args.results)
    scores = vqa_scores(annotations, predictions)
    write_json(args.output, scores._asdict(), indent=1)
    print(f"{len(annotated)} questions, accuracy {scores.overall:.2f} %")
    for name, accuracy in scores.per_answer_type.items():
        print(f"  {name!a}: {accuracy:.2f} %")


def score_prepared(args: argparse.Namespace) -> None:
    """Score predictions on splits of a prepared folder."""
    from vl_absvit.data.records import read_annotations, read_manifest, split_names
    from vl_absvit.evaluation.accuracy_rules import accuracy_rule

    manifest, splits = read_manifest(args.data), split_names(args.split)
    rule, annotations = accuracy_rule(manifest), read_annotations(args.data, splits)
    predictions = read_json(args.results, list)
    check_submission(predictions, [annotation["question_id"] for annotation in annotations], source=args.results)
    scores = vqa_scores(annotations, predictions, rule.of_question)
    about = {"dataset": manifest.get("dataset", manifest.get("kind")), "splits": splits, "rule": rule.words}
    write_json(args.output, scores._asdict() | about, indent=1)
    print(f"{len(annotations)} questions of {about['dataset']}, {rule.metric} {scores.overall:.2f} %: {rule.words}")
    for name, accuracy in scores.per_answer_type.items():
        print(f"  {name!a}: {accuracy:.2f} %")


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    parser.add_argument("--data", help="prepared folder, instead of official files")
    parser.add_argument("--split", help="split of --data, such as val, or several: val,minival")
    parser.add_argument("--annotations", help="official annotations, .json or .json.gz")
    parser.add_argument("--questions", help="official questions of the same split, .json or .json.gz")
    parser.add_argument("--results", help='predictions, [{"question_id": int, "answer": str}, ...]')
    parser.add_argument("--output", help="scores.json to write")
    parser.add_argument("--validate", choices=SENT_AS, help="only check --results, which are to be sent for this split")
    args = parser.parse_args()
    if args.data and (args.validate or args.annotations or args.questions):
        parser.error("--data goes without --validate, --annotations and --questions")
    needed = ["questions", "results"] if args.validate else ["annotations", "questions", "results", "output"]
    needed = ["split", "results", "output"] if args.data else needed
    missing = [f"--{name}" for name in needed if getattr(args, name) is None]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    if args.validate and (args.annotations or args.output):
        parser.error("--validate scores nothing: it goes without --annotations and --output")
    return args


def read_list_under(key: str, path: str) -> list:
    """The list under ``key`` of an official file, or the list that the file is, as of VQA-CP."""
    content = read_json(path)
    if isinstance(content, list) and content:
        return content
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object at the top level, got {form_name(content)}")
    if not isinstance(content.get(key), list):
        found = form_name(content[key]) if key in content else "no such key"
        raise InputError(f"{path}: expected a list under {key!r}, got {found}")
    return content[key]


def check_annotated(questions: list, annotated: list[int], where: str, annotations_path: str) -> None:
    """Refuse questions that are not exactly those that are annotated, each once."""
    asked = dict.fromkeys(question_ids(questions, where))
    known = set(annotated)
    refuse(
        where,
        {
            f"not annotated in {annotations_path}": [question for question in asked if question not in known],
            f"annotated in {annotations_path} but not asked": [each for each in annotated if each not in asked],
        },
    )


if __name__ == "__main__":
    run_main(main)
