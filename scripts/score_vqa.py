"""Score VQA predictions as the official evaluator does.

python scripts/score_vqa.py --annotations A.json[.gz] --questions Q.json[.gz] --results R.json --output scores.json
"""

import argparse
from collections import Counter

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.data.json_files import form_name, read_json, write_json
from vl_absvit.errors import InputError
from vl_absvit.evaluation.submission import check_submission
from vl_absvit.evaluation.vqa_accuracy import check_annotations, vqa_scores


def main() -> None:
    args = parse_arguments()
    annotations = read_list_under("annotations", args.annotations)
    check_annotations(annotations, where=args.annotations)
    question_ids = [annotation["question_id"] for annotation in annotations]
    check_questions(read_list_under("questions", args.questions), question_ids, args.questions, args.annotations)
    predictions = read_json(args.results, list)
    check_submission(predictions, question_ids, where=args.results)
    scores = vqa_scores(annotations, predictions)
    write_json(args.output, scores._asdict(), indent=1)
    print(f"{len(question_ids)} questions, accuracy {scores.overall:.2f} %")
    for name, accuracy in scores.per_answer_type.items():
        print(f"  {name!a}: {accuracy:.2f} %")


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    parser.add_argument("--annotations", required=True, help="official annotations, .json or .json.gz")
    parser.add_argument("--questions", required=True, help="official questions of the same split, .json or .json.gz")
    parser.add_argument("--results", required=True, help='predictions, [{"question_id": int, "answer": str}, ...]')
    parser.add_argument("--output", required=True, help="scores.json to write")
    return parser.parse_args()


def read_list_under(key: str, path: str) -> list:
    """The list under ``key`` of an official file."""
    content = read_json(path, dict)
    if not isinstance(content.get(key), list):
        found = form_name(content[key]) if key in content else "no such key"
        raise InputError(f"{path}: expected a list under {key!r}, got {found}")
    return content[key]


def check_questions(questions: list, annotated: list[int], where: str, annotations_path: str) -> None:
    """Refuse questions that are not exactly those that are annotated, each once."""
    for place, question in enumerate(questions):
        if not isinstance(question, dict) or type(question.get("question_id")) is not int:
            raise InputError(f"{where}: question {place}: expected an integer question_id, got {question!r:.80}")
    times = Counter(question["question_id"] for question in questions)
    known = set(annotated)
    faults = {
        "asked more than once": [question for question, count in times.items() if count > 1],
        f"not annotated in {annotations_path}": [question for question in times if question not in known],
        f"annotated in {annotations_path} but not asked": [question for question in annotated if question not in times],
    }
    found = [f"{len(ids)} question(s) {fault}, e.g. {ids[0]}" for fault, ids in faults.items() if ids]
    if found:
        raise InputError(f"{where}: {'; '.join(found)}")


if __name__ == "__main__":
    run_main(main)
