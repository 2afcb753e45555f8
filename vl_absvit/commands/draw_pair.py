"""Draw how two questions about one picture turn the second look: image, first look, and for either question both maps.

vl-absvit draw-pair --checkpoint runs/demo/vqa/checkpoints/best --image a.jpg \\
    --questions "What is left?" "What is right?" --output pair.png

The run's vision.top_down must be one that looks again for the text. Maps are those of vl-absvit export-attention.
"""

from pathlib import Path

from vl_absvit.cli import OptionParser, add_block_option, add_checkpoint_option, add_precision_option, run_main

COLOURS = 96
"""Of the page: enough for its maps to look smooth, few enough for a small file."""


def main() -> None:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "a VQA checkpoint")
    parser.add_argument("--image", type=Path, required=True, metavar="FILE", help="a picture")
    parser.add_argument("--questions", nargs=2, required=True, metavar="TEXT", help="two questions about it")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.png", help="picture to write")
    add_block_option(parser, "block whose tokens both looks' maps measure")
    add_precision_option(parser)
    arguments = parser.parse_args()
    if arguments.output.suffix.lower() != ".png":
        parser.error(f"--output: expected a name that ends in .png, got {arguments.output}")

    import torch
    from accelerate.utils import send_to_device
    from PIL import Image

    from vl_absvit.data.files import write_whole
    from vl_absvit.data.json_files import make_room
    from vl_absvit.hub import find
    from vl_absvit.looking.explanation import choose_maps, explain
    from vl_absvit.looking.geometry import seen_box
    from vl_absvit.looking.own_samples import OwnTexts
    from vl_absvit.looking.own_texts import make_request
    from vl_absvit.looking.pages import QuestionMaps, two_questions
    from vl_absvit.looking.predictions import AnswerPrediction, predictions_of
    from vl_absvit.precision import arithmetic
    from vl_absvit.tasks.vqa import load_checkpoint

    requests = [make_request(arguments.image, text, "command line") for text in arguments.questions]
    make_room(arguments.output)
    checkpoint = load_checkpoint(find(arguments.checkpoint, "--checkpoint").path)
    model, preprocessing = checkpoint.model, checkpoint.preprocessing
    choice = choose_maps(model.vision, ("prior_mask", "bottom_up", "top_down"), arguments.block)
    asked = OwnTexts(requests, checkpoint.tokenizer, preprocessing.max_tokens, preprocessing.transform())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = send_to_device(asked.collate(asked.__getitems__([0, 1])), device)
    with arithmetic(arguments.precision, device):
        explanation = explain(model.to(device), batch, choice)
    answers = predictions_of(explanation.logits, checkpoint.vocabulary.answers)
    predictions = [answer.prediction for answer in answers if isinstance(answer, AnswerPrediction)]
    maps = {name: grids.float().cpu().numpy() for name, grids in explanation.maps.items()}
    first, second = (
        QuestionMaps(question, prediction, maps["prior_mask"][row], maps["top_down"][row])
        for row, (question, prediction) in enumerate(zip(arguments.questions, predictions, strict=True))
    )
    picture = asked.open(0)
    box = seen_box(*picture.size, preprocessing.image_size)
    page = two_questions(picture, maps["bottom_up"][0], (first, second), box)
    page = page.quantize(COLOURS, dither=Image.Dither.NONE)
    write_whole(arguments.output, lambda stream: page.save(stream, "PNG", optimize=True))
    print(arguments.output)


if __name__ == "__main__":
    run_main(main)
