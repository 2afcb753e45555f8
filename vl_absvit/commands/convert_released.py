"""The authors' released checkpoints as checkpoint folders of this project.

vl-absvit convert-released --checkpoint absvit_base.pth --output DIR
vl-absvit convert-released --checkpoint vqa.ckpt --answers data/vqav2_meter/answers.json \\
    --tokenizer roberta-base --output DIR
vl-absvit convert-released --checkpoint vars_d.pth --model absvit_rvt_tiny --attention vars_d \\
    --vars-generation linked --output DIR
vl-absvit convert-released --checkpoint upernet_absvit_ade20k.pth --classes data/ade20k --output DIR
A .pth of the ImageNet release becomes a folder for ``evaluate-vision`` and ``--vision.weights DIR``, and so does one of
RVT, VARS, FAN or GFNet, with the ``--model`` that it is; a Lightning .ckpt of the vision-language release, and a .pth
of the segmentation release, become folders that the evaluation scripts and ``--from_checkpoint DIR`` read. METER's
answers come from ``prepare-vqav2 --meter-compatible`` on all of train and val; a segmenter's classes are those of a
folder of prepared data, or else the file's. Nothing but tensors, numbers and texts is read from the file;
conversion.json says what became of every one of its keys.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.config.model import Attention, VARSGeneration
from vl_absvit.errors import ConfigError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vl_absvit.data.answers import AnswerVocabulary
    from vl_absvit.models.released import Conversion, ReleasedFile

OF_MODEL = ("attention", "vars_generation", "vars_steps", "image_size")
"""Options that describe the trunk of ``--model``, as ``vision`` of a config."""
READ_NO_TEXT = {"classifier": "an image classifier", "segmenter": "a segmenter"}
"""Kinds of models without a text encoder, in words."""


def main() -> None:
    arguments = parse_arguments()
    from vl_absvit.data.answers import AnswerVocabulary
    from vl_absvit.data.files import check_new_or_empty
    from vl_absvit.models.released import convert, read_released
    from vl_absvit.tasks.tokenizers import load_tokenizer
    from vl_absvit.training.checkpoint import save_checkpoint

    check_new_or_empty(arguments.output)
    released = read_released(arguments.checkpoint)
    conversion = convert(released, arguments.num_heads, arguments.text_heads, vision_of(arguments))
    check_options(conversion, released, arguments)
    vocabulary = arguments.answers and AnswerVocabulary.load(arguments.answers)
    tokenizer = arguments.tokenizer and load_tokenizer(arguments.tokenizer)
    warnings = [*check_answers(conversion, vocabulary, arguments), *check_tokenizer(conversion, tokenizer, arguments)]
    warnings += name_classes(conversion, released, arguments)

    def write(folder: Path) -> None:
        write_folder(folder, released, conversion, tokenizer, vocabulary, warnings)

    save_checkpoint(arguments.output, write)
    report(conversion, released, warnings)
    print(f"{arguments.output}: {describe(conversion)}")


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="the authors' .pth or .ckpt")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to be made")
    parser.add_argument(
        "--answers", type=Path, metavar="FILE", help="answers.json of a VQA model, in its labels' order"
    )
    parser.add_argument(
        "--classes", type=Path, metavar="FOLDER", help="prepared labelled pixels, whose classes are a segmenter's"
    )
    parser.add_argument("--tokenizer", metavar="DIR", help="folder or hub name of RoBERTa's tokenizer")
    parser.add_argument("--num-heads", type=int, metavar="N", help="heads of a ViT that is not 192, 384 or 768 wide")
    parser.add_argument("--text-heads", type=int, metavar="N", help="heads of a RoBERTa that is not 768 or 1024 wide")
    parser.add_argument(
        "--model", metavar="NAME", help="trunk in a file of RVT, VARS, FAN or GFNet, such as absvit_rvt_tiny"
    )
    parser.add_argument("--attention", choices=get_args(Attention), help="its attention, where that is not its own")
    parser.add_argument("--vars-generation", choices=get_args(VARSGeneration), help="of vars_d and vars_sd")
    parser.add_argument("--vars-steps", type=int, metavar="N", help="of VARS (default: the release's)")
    parser.add_argument("--image-size", type=int, metavar="PX", help="side of its images (default: 224)")
    arguments = parser.parse_args()
    for name in ("num_heads", "text_heads"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}")
    for name in OF_MODEL:
        if getattr(arguments, name) is not None and arguments.model is None:
            parser.error(f"--{name.replace('_', '-')} is about --model, which is not given")
    if arguments.model is not None and arguments.num_heads is not None:
        parser.error("--num-heads is about a ViT; --model names a trunk with its heads")
    return arguments


def vision_of(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Fields of ``VisionConfig`` that the options name; None where they name no trunk."""
    if arguments.model is None:
        return None
    given = {name: getattr(arguments, name) for name in ("model", *OF_MODEL)}
    return {name: value for name, value in given.items() if value is not None}


def check_options(conversion: "Conversion", released: "ReleasedFile", arguments: argparse.Namespace) -> None:
    """Stop where an option is missing that this kind of model needs, or given to one that has no use for it."""
    if conversion.kind == "vqa" and arguments.answers is None:
        raise ConfigError(
            f"--answers is needed: the model chooses from {conversion.config['head']['num_answers']} answers that the "
            "file does not name; vl-absvit prepare-vqav2 --meter-compatible writes METER's to answers.json"
        )
    if conversion.kind != "vqa" and arguments.answers is not None:
        raise ConfigError(f"--answers: this is {describe(conversion)}, which has no answer vocabulary")
    is_segmenter = conversion.kind == "segmenter"
    if is_segmenter and arguments.classes is None and "classes" not in released.config:
        raise ConfigError(
            f"--classes is needed: the model tells {len(conversion.config['segmenter']['classes'])} classes apart that "
            "the file does not name; vl-absvit prepare-segmentation writes a folder whose manifest.json does"
        )
    if not is_segmenter and arguments.classes is not None:
        raise ConfigError(f"--classes: this is {describe(conversion)}, which gives pixels no classes")
    if conversion.kind in READ_NO_TEXT and (arguments.tokenizer or arguments.text_heads):
        raise ConfigError(f"--tokenizer, --text-heads: this is {describe(conversion)}, which reads no text")


def check_answers(
    conversion: "Conversion", vocabulary: "AnswerVocabulary | None", arguments: argparse.Namespace
) -> list[str]:
    """Raise ``InputError`` where the answers cannot be the model's; what is doubtful about them."""
    if vocabulary is None:
        return []
    expected = conversion.config["head"]["num_answers"]
    if len(vocabulary) != expected:
        raise InputError(f"{arguments.answers}: expected the model's {expected} answers, got {len(vocabulary)}")
    if vocabulary.normaliser == "meter-1":
        return []
    return [
        f"{arguments.answers}: its normaliser is {vocabulary.normaliser}, not METER's (meter-1). METER's labels are in "
        "the order in which the answers first occur; in another order every answer would be a wrong one"
    ]


def check_tokenizer(
    conversion: "Conversion", tokenizer: "PreTrainedTokenizerBase | None", arguments: argparse.Namespace
) -> list[str]:
    """Raise ``InputError`` where the tokenizer cannot be the model's; what is doubtful about it."""
    if conversion.kind in READ_NO_TEXT:
        return []
    if tokenizer is None:
        return ["no tokenizer: nothing can be evaluated with the folder; give --tokenizer for one that can"]
    text, name = conversion.config["text"], f"tokenizer {arguments.tokenizer}"
    for key in ("bos_token_id", "pad_token_id", "eos_token_id"):
        if getattr(tokenizer, key) != text[key]:
            raise InputError(f"{name}: expected RoBERTa's {key} {text[key]}, got {getattr(tokenizer, key)}")
    tokens = 1 + max(tokenizer.get_vocab().values())
    sizes = f"it has {tokens} tokens, the model {text['vocab_size']}"
    if tokens > text["vocab_size"]:
        raise InputError(f"{name}: {sizes}")
    return [] if tokens == text["vocab_size"] else [f"{name}: {sizes}; the model's own has as many"]


def name_classes(conversion: "Conversion", released: "ReleasedFile", arguments: argparse.Namespace) -> list[str]:
    """Give a segmenter's classes their names and colours: those of ``--classes``, or else the file's own.

    Returns:
        What is doubtful about them.

    Raises:
        InputError: there is another number of classes.
    """
    if conversion.kind != "segmenter":
        return []
    from vl_absvit.data.labelled_pixels import read_classes
    from vl_absvit.data.segmentation_labels import standard_colours

    segmenter, warnings = conversion.config["segmenter"], []
    number = len(segmenter["classes"])
    if arguments.classes is not None:
        names, colours = read_classes(arguments.classes)
        if len(names) != number:
            raise InputError(f"{arguments.classes}: expected the model's {number} classes, got {len(names)}")
        pairs = zip(released.config.get("classes", names), names, strict=True)
        others = [(theirs, name) for theirs, name in pairs if theirs != name]
        if others:
            warnings.append(
                f"{len(others)} of {number} classes have another name in the file, such as {others[0][0]!r:.40} for "
                f"{others[0][1]!r:.40}; in another order every one would be a wrong one"
            )
        segmenter |= {"classes": names, "colours": colours}
    if not segmenter["colours"]:
        segmenter["colours"] = standard_colours(number)
    return warnings


def write_folder(
    folder: Path,
    released: "ReleasedFile",
    conversion: "Conversion",
    tokenizer: "PreTrainedTokenizerBase | None",
    vocabulary: "AnswerVocabulary | None",
    warnings: list[str],
) -> None:
    """Write a converted model into an empty folder, as the run of its task would have."""
    import torch
    from safetensors.torch import save_file

    from vl_absvit.data.json_files import write_json
    from vl_absvit.models.architecture import build_from_architecture
    from vl_absvit.tasks.tokenizers import save_tokenizer
    from vl_absvit.tasks.vl_checkpoint import PREPROCESSING, TRAINING
    from vl_absvit.tasks.vqa import ANSWERS

    origin = {"file": released.path.name, "sha256": released.sha256, "form": released.form}
    training = conversion.training | {"converted_from": origin}
    if conversion.kind in READ_NO_TEXT:
        write_json(folder / "config.json", conversion.config, indent=1)
        save_file(conversion.state, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        with torch.device("meta"):  # nothing but the converted weights takes memory
            model = build_from_architecture(conversion.config, str(released.path))
        model.load_state_dict(conversion.state, assign=True)
        model.save_weights(folder)
    if tokenizer is not None:
        save_tokenizer(folder, tokenizer)
    if vocabulary is not None:
        vocabulary.save(folder / ANSWERS)
    if conversion.preprocessing:
        write_json(folder / PREPROCESSING, conversion.preprocessing, indent=1)
    write_json(folder / TRAINING, training, indent=1)
    account = {
        status: [
            {"key": entry.key, "part": entry.part, "parameters": entry.parameters, "reason": entry.reason}
            for entry in conversion.entries
            if entry.status == status
        ]
        for status in ("loaded", "ignored", "new")
    }
    content = {
        "format": 1,
        "converted_from": origin,
        "kind": conversion.kind,
        "options": [option._asdict() for option in conversion.options],
        "warnings": warnings,
        **account,
    }
    write_json(folder / "conversion.json", content, indent=1)


def report(conversion: "Conversion", released: "ReleasedFile", warnings: list[str]) -> None:
    """What became of the file's tensors, and the settings that equal results need."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    rows: dict[tuple[str, str, str], list[int]] = {}
    for status in ("loaded", "ignored", "new"):
        for entry in conversion.entries:
            if entry.status == status:
                rows.setdefault((status, entry.part, entry.reason), []).append(entry.parameters)
    title = f"{released.path.name}, sha256 {released.sha256:.12}"
    table = Table("", "part", "tensors", "parameters", "remark", title=title)
    for column in table.columns[2:4]:
        column.justify = "right"
    for (status, part, reason), sizes in rows.items():
        table.add_row(status, part, str(len(sizes)), f"{sum(sizes):,}", reason)
    console.print(table)
    settings = Table("setting", "value", "why")
    for option in conversion.options:
        settings.add_row(option.name, str(option.value), option.why)
    console.print(settings)
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True, markup=False)


def describe(conversion: "Conversion") -> str:
    """The kind of model, in words."""
    from vl_absvit.models.heads import HEADS

    return READ_NO_TEXT.get(conversion.kind) or HEADS[conversion.kind].title


if __name__ == "__main__":
    run_main(main)
