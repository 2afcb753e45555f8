"""Answer every question of a split: EvalAI predictions, and accuracy where the split has answers.

python scripts/evaluate_vqa.py --checkpoint DIR --data OUT --split val,minival --output predictions.json
predictions.about.json, beside them, says what gave them, and in which precision.
The official val is val and minival together, which was drawn from it.
Also under torchrun or accelerate launch. Tokenizer, vocabulary and image preprocessing are the checkpoint's own.
"""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from vl_absvit.cli import OptionParser, add_images_option, add_precision_option, progress, run_main
from vl_absvit.errors import InputError


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument(
        "--checkpoint", required=True, metavar="DIR", help="folder of a VQA checkpoint, or hub name[@REVISION]"
    )
    parser.add_argument("--data", required=True, metavar="OUT", help="folder written by data_prep/prepare_vqav2.py")
    add_images_option(parser)
    parser.add_argument("--split", required=True, help="split to answer, such as test, or several: val,minival")
    parser.add_argument("--output", required=True, metavar="FILE", help="predictions, a JSON file in EvalAI's form")
    parser.add_argument(
        "--batch-size", type=int, default=64, help="questions per process and forward pass (default: 64)"
    )
    parser.add_argument("--num-workers", type=int, default=4, help="loader processes per process (default: 4)")
    add_precision_option(parser)
    arguments = parser.parse_args()
    if arguments.batch_size < 1 or arguments.num_workers < 0:
        parser.error("--batch-size must be at least 1 and --num-workers at least 0")

    from vl_absvit.data.json_files import make_room, write_json
    from vl_absvit.data.loaders import evaluation_loader
    from vl_absvit.data.records import read_annotations, read_manifest, read_vocabulary, split_names
    from vl_absvit.distributed import gather_objects, is_main, rank, world_size
    from vl_absvit.evaluation.submission import check_submission, remarks, write_submission
    from vl_absvit.evaluation.vqa_accuracy import vqa_scores
    from vl_absvit.hub import find
    from vl_absvit.precision import arithmetic
    from vl_absvit.tasks.vqa import load_checkpoint, make_dataset, predict_answers
    from vl_absvit.training.loop import make_accelerator

    splits = split_names(arguments.split)
    accelerator = make_accelerator()
    found = find(arguments.checkpoint, "--checkpoint")
    checkpoint = load_checkpoint(found.path)
    manifest = read_manifest(arguments.data)
    is_labelled = manifest.get("vocabulary") is not None
    vocabulary = read_vocabulary(arguments.data) if is_labelled else checkpoint.vocabulary
    make_room(arguments.output)
    if is_main() and vocabulary.sha256 != checkpoint.vocabulary.sha256:
        print(f"{arguments.data} was prepared with another answer vocabulary; the answers come from the checkpoint's")
    dataset = make_dataset(
        arguments.data, splits, checkpoint.tokenizer, len(vocabulary), checkpoint.preprocessing,
        images=arguments.images,
    )  # fmt: skip
    if dataset.without_image:
        raise InputError(
            f"{arguments.data}: {dataset.without_image:,} of {dataset.without_image + len(dataset):,} questions of "
            f"{arguments.split} have no image, which was missing when they were prepared: nothing is answered, for "
            "predictions must have every question of the split; bring the images and prepare again, into another folder"
        )
    model = checkpoint.model.to(accelerator.device)
    loader = evaluation_loader(
        dataset,
        batch_size=arguments.batch_size,
        rank=rank(),
        world_size=world_size(),
        num_workers=arguments.num_workers,
    )
    mine = len(dataset) // world_size()
    with progress() as bar, arithmetic(arguments.precision, accelerator.device):
        answers = bar.track(predict_answers(model, loader, checkpoint.vocabulary), total=mine, description="answering")
        predictions = gather_objects(list(answers))
    if is_main():
        check_submission(predictions, dataset.question_ids.tolist())
        write_submission(arguments.output, predictions)
        print(f"{len(predictions)} answers in {arguments.output}, in {arguments.precision}")
        if found.name != arguments.checkpoint:
            print(f"by {found.name}")
        about = {
            "predictions": Path(arguments.output).name,
            "checkpoint": found.name,
            "data": str(arguments.data),
            "dataset": manifest.get("dataset", manifest.get("kind")),
            "splits": splits,
            "precision": arguments.precision,
            "batch_size": arguments.batch_size,
        }
        if dataset.has_answers:
            scores = vqa_scores(read_annotations(arguments.data, splits), predictions)
            about |= {"accuracy": scores.overall, "accuracy_per_answer_type": scores.per_answer_type}
            print_scores(scores)
        else:
            print(f"{arguments.split} has no answers to score against")
        write_json(Path(arguments.output).with_suffix(".about.json"), about, indent=1)
        for words in remarks(manifest, splits, len(predictions)):
            print(words)
    accelerator.end_training()


def print_scores(scores) -> None:
    """Accuracy overall and per answer and question type."""
    table = Table("questions", "accuracy (%)")
    table.columns[1].justify = "right"
    table.add_row("all", f"{scores.overall:.2f}", end_section=True)
    for types in (scores.per_answer_type, scores.per_question_type):
        for name, accuracy in types.items():
            table.add_row(name, f"{accuracy:.2f}")
        table.add_section()
    Console().print(table)


if __name__ == "__main__":
    run_main(main)
