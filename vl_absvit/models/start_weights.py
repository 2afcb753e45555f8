"""Load start weights into trunks and whole models.

Positions and patches are resampled; other weights must fit exactly. Every function here returns an account of all
tensors (``load_report.py``). Weights without a place are dropped for known reasons only; other differences are errors.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import timm
from torch import Tensor, nn

from vl_absvit.errors import InputError, first_line, one_line
from vl_absvit.models.fusion import IMAGE
from vl_absvit.models.heads import NLVR2Head, VQAHead
from vl_absvit.models.labels import LabelMatch
from vl_absvit.models.load_report import RANDOM, Entry
from vl_absvit.models.looks import OWN, VisualEncoder
from vl_absvit.models.segmenter import Segmenter
from vl_absvit.models.trunks.registry import trunk_named
from vl_absvit.models.vl_model import VLAbSViT
from vl_absvit.models.weight_files import Weights, read_weights

log = logging.getLogger(__name__)

NO_PLACE = "this model has none"
TOKEN_TYPES, SECOND_IMAGE_TYPE = "fusion.token_types.weight", "head.second_image_type"
ANSWER_LAYER, CLASS_LAYER = "head.3.", "head."
"""The last layer of a ``VQAHead``, and that of a classifier. Each of their rows belongs to one label."""
AUXILIARY = "auxiliary_head."
PIXEL_LAYERS = ("head.classifier.1.", f"{AUXILIARY}classifier.1.")
"""The last layers of a segmenter's heads, likewise."""


Fittable = Literal["decoders", "mean_token"]
"""Parts of a trunk that can be fitted to what it sees in images, by the beginning of their names."""
Fit = Callable[[VisualEncoder, Fittable], str]
NOTHING_TO_FIT_TO: dict[Fittable, str] = {
    "decoders": "the trunk starts from random weights, to which no decoders can be fitted: theirs are random, too",
    "mean_token": "the trunk starts from random weights, whose mean token means nothing: vision.centred takes out none",
}


class Source(NamedTuple):
    """The origin of tensors."""

    text: str  # option and file
    in_model: str = ""  # prefix of their names in the whole model
    in_file: str = ""  # prefix of their names in the file

    def entry(self, status: Literal["loaded", "resampled"], name: str, numbers: int, remark: str) -> Entry:
        """The entry of a tensor that the model has."""
        return Entry(status, self.text, self.in_model + name, numbers, remark)

    def dropped(self, name: str, numbers: int, reason: str, tensors: int = 1) -> Entry:
        """The entry of a tensor, or of rows of one, that the model does not use."""
        return Entry("dropped", self.text, self.in_file + name, numbers, reason, tensors)


class Tensors(NamedTuple):
    """Tensors for a model, by their names in it."""

    values: dict[str, Tensor]
    remarks: dict[str, str]  # name -> what was done to the tensor
    resampled: set[str]  # names of tensors whose shape was changed


def load_trunk(vision: VisualEncoder, weights: str, model: str, classes: LabelMatch | None = None) -> list[Entry]:
    """Load start weights of the trunk from ``vision.weights``. New parameters stay as they are.

    Args:
        vision: the encoder, whose names begin with ``vision.`` in the account.
        weights: a file, a folder, or ``timm``.
        model: registered name of ``vision``.
        classes: the classes of a classifier, matched with those of the weights; None if the weights name none.

    Raises:
        InputError: there are no such weights, or they do not fit.
    """
    option = "vision.weights"
    state, origin = _timm_weights(model) if weights == "timm" else read_weights(Path(weights), option)
    with _named_in_errors(f"{option} {weights}: not the weights of the configured {model}"):
        found = vision.read_foreign(state)
        source = Source(f"{option} {origin}", in_model="vision.", in_file=found.prefix)
        tensors = _on_grid(Tensors(found.state, found.remarks, set()), vision)
        tensors, entries = _with_rows(tensors, vision, CLASS_LAYER, classes, source)
        entries += _load(vision, tensors, source, differing=("head.", *OWN))
    return entries + [Entry("dropped", source.text, *dropped) for dropped in found.dropped]


def load_start(model: VLAbSViT, folder: str, answers: LabelMatch | None = None) -> list[Entry]:
    """Load start weights of a whole model from the checkpoint folder ``from_checkpoint``.

    Positions are resampled. A head of another kind and parts that only the model has (feedback, prior) stay as they
    are.

    Args:
        answers: the answers of a VQA head, matched with the checkpoint's; None if its head is of another kind.

    Raises:
        InputError: there are no such weights, or they do not fit.
    """
    option = "from_checkpoint"
    state, origin = read_weights(Path(folder), option)
    source = Source(f"{option} {origin}")
    with _named_in_errors(f"{option} {folder}: not the weights of the configured model"):
        tensors = _on_grid(Tensors(state, {}, set()), model.vision, prefix="vision.")
        tensors, entries = _without_another_head(tensors, model, is_vqa=answers is not None, source=source)
        tensors = _with_second_image_type(tensors, model)
        if answers is not None:
            if f"{ANSWER_LAYER}weight" not in tensors.values:
                raise InputError(f"expected a head with answers, but there is no {ANSWER_LAYER}weight")
            tensors, rows = _with_rows(tensors, model, ANSWER_LAYER, answers, source)
            entries += rows
        differing = ("head.", "prior.", "vision.head.", *(f"vision.{name}" for name in OWN))
        return entries + _load(model, tensors, source, differing)


def load_segmenter_start(model: Segmenter, folder: str, classes: LabelMatch) -> list[Entry]:
    """Load start weights of a whole segmenter from the checkpoint folder ``from_checkpoint``.

    Positions are resampled. Parts that only the model has (feedback, prior, auxiliary head) stay as they are.

    Args:
        classes: the classes, matched with the checkpoint's.

    Raises:
        InputError: there are no such weights, or they do not fit.
    """
    option = "from_checkpoint"
    state, origin = read_weights(Path(folder), option)
    source, entries = Source(f"{option} {origin}"), []
    if model.auxiliary_head is None:
        unused = [key for key in state if key.startswith(AUXILIARY)]
        entries += [source.dropped(key, state[key].numel(), NO_PLACE) for key in unused]
        state = {key: value for key, value in state.items() if key not in unused}
    with _named_in_errors(f"{option} {folder}: not the weights of the configured model"):
        tensors = _on_grid(Tensors(state, {}, set()), model.vision, prefix="vision.")
        for layer in PIXEL_LAYERS:
            tensors, rows = _with_rows(tensors, model, layer, classes, source)
            entries += rows
        differing = (AUXILIARY, PIXEL_LAYERS[0], *(f"vision.{name}" for name in OWN))
        return entries + _load(model, tensors, source, differing)


def fit_new(vision: VisualEncoder, entries: Sequence[Entry], parts: Sequence[Fittable], fit: Fit) -> list[Entry]:
    """Fit parts of a trunk to what it sees, if its weights were loaded and theirs were not.

    Args:
        entries: the account of the loaded weights.
        parts: what is fitted where the trunk has it.
        fit: fits a part and returns words for the images that it used.

    Returns:
        The entries of what was fitted.
    """
    loaded = [entry.name for entry in entries if entry.status in ("loaded", "resampled")]
    fitted = []
    for part in parts:
        prefix = f"vision.{part}"
        own = {key: value for key, value in vision.state_dict(prefix="vision.").items() if key.startswith(prefix)}
        if not own or any(name.startswith(prefix) for name in loaded):
            continue
        if not any(name.startswith("vision.") for name in loaded):
            log.info(NOTHING_TO_FIT_TO[part])
            continue
        source = f"{prefix} {fit(vision, part)}"
        fitted += [Entry("fitted", source, name, value.numel()) for name, value in own.items()]
    return fitted


def load_pretrained(
    module: nn.Module, state: dict[str, Tensor], *, new: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    """Load ``state``, allowing only the named differences.

    Missing weights that begin with ``new`` keep their initialization. Unknown ones that begin with ``dropped`` are
    ignored.
    """
    result = module.load_state_dict(state, strict=False)
    missing = [key for key in result.missing_keys if not key.startswith(new)]
    unexpected = [key for key in result.unexpected_keys if not key.startswith(dropped)]
    if missing or unexpected:
        raise InputError(f"missing {missing[:3]} ({len(missing)}), unexpected {unexpected[:3]} ({len(unexpected)})")


def _load(module: nn.Module, tensors: Tensors, source: Source, differing: tuple[str, ...]) -> list[Entry]:
    """Load tensors into a module. Only names that begin with one of ``differing`` may be missing on one side."""
    own, entries = module.state_dict(), []
    for key, value in tensors.values.items():
        if not value.is_floating_point() and (key not in own or own[key].is_floating_point()):
            raise InputError(f"expected real numbers for {key}, got {value.dtype}")
    load_pretrained(module, tensors.values, new=differing, dropped=differing)
    for key, value in tensors.values.items():
        if key in own:
            status: Literal["loaded", "resampled"] = "resampled" if key in tensors.resampled else "loaded"
            entries.append(source.entry(status, key, value.numel(), tensors.remarks.get(key, "")))
        else:
            entries.append(source.dropped(key, value.numel(), NO_PLACE))
    return entries


def _on_grid(tensors: Tensors, vision: VisualEncoder, prefix: str = "") -> Tensors:
    """Resample weights that follow the size of the image, such as a position table, to the shapes of ``vision``.

    Args:
        prefix: prefix of the encoder's names.
    """
    values, remarks = dict(tensors.values), dict(tensors.remarks)
    inside = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
    fitting = {prefix + name: value for name, value in vision.resample(inside).items()}
    resampled = {name for name, value in fitting.items() if value.numel() != values[name].numel()}
    for name in resampled:
        shapes = f"{tuple(values[name].shape)} -> {tuple(fitting[name].shape)}"
        remarks[name] = "; ".join(filter(None, [remarks.get(name), shapes]))
    return Tensors(values | fitting, remarks, tensors.resampled | resampled)


def _with_rows(
    tensors: Tensors, module: nn.Module, layer: str, labels: LabelMatch | None, source: Source
) -> tuple[Tensors, list[Entry]]:
    """Load the rows of a head's last layer by their labels. New labels keep the rows of ``module``.

    Returns:
        The tensors without that layer, and the entries of its rows.
    """
    own, values, entries = module.state_dict(), dict(tensors.values), []
    for name in (f"{layer}weight", f"{layer}bias"):
        value, target = values.pop(name, None), own.get(name)
        if value is None:
            continue
        if target is None or labels is None:
            reason = NO_PLACE if target is None else "nobody knows which labels its rows stand for"
            entries.append(source.dropped(name, value.numel(), reason))
            continue
        if value.ndim == 0 or len(value) != labels.before or value.shape[1:] != target.shape[1:]:
            raise InputError(
                f"{name}: expected the shape {(labels.before, *target.shape[1:])} of {labels.before} labels, "
                f"got {tuple(value.shape)}"
            )
        kept = {row: before for row, before in enumerate(labels.rows) if before is not None}
        if kept:
            target[list(kept)] = value[list(kept.values())].to(target.dtype)  # the state shares the module's memory
        entries += _account_of_rows(labels, len(kept), target[0].numel(), source, name)
    return tensors._replace(values=values), entries


def _account_of_rows(labels: LabelMatch, kept: int, width: int, source: Source, name: str) -> list[Entry]:
    """The entries of one tensor's rows, of ``width`` numbers each."""
    entries, new, gone = [], len(labels.new), len(labels.dropped)
    if kept:
        remark = "" if labels.is_identity else f"{kept:,} of {kept + new:,} rows, by their labels"
        entries.append(source.entry("loaded", name, kept * width, remark))
    if new:
        remark = "rows of new labels"
        entries.append(Entry("fresh", RANDOM, source.in_model + name, new * width, remark, tensors=0 if kept else 1))
    if gone:
        remark = "rows of labels that are no longer there"
        entries.append(source.dropped(name, gone * width, remark, tensors=0 if kept else 1))
    return entries


def _without_another_head(
    tensors: Tensors, model: VLAbSViT, is_vqa: bool, source: Source
) -> tuple[Tensors, list[Entry]]:
    """The tensors without a head of another kind than the model's, and the entries of that head.

    Args:
        is_vqa: whether the head is a VQA head.
    """
    own = {key: value.shape for key, value in model.state_dict().items() if key.startswith("head.")}
    head = {key: value.shape for key, value in tensors.values.items() if key.startswith("head.")}
    if is_vqa if isinstance(model.head, VQAHead) else own == head:
        return tensors, []
    values = {key: value for key, value in tensors.values.items() if key not in head}
    return tensors._replace(values=values), [
        source.dropped(key, shape.numel(), "a head of another kind") for key, shape in head.items()
    ]


def _with_second_image_type(tensors: Tensors, model: VLAbSViT) -> Tensors:
    """The tensors with NLVR2's type of second images, if the model needs one: a copy of the type of images."""
    types = tensors.values.get(TOKEN_TYPES)
    is_needed = isinstance(model.head, NLVR2Head) and SECOND_IMAGE_TYPE not in tensors.values
    if not is_needed or types is None or types.shape != model.fusion.token_types.weight.shape:
        return tensors
    copied = {SECOND_IMAGE_TYPE: types[IMAGE].clone()}
    remarks = {SECOND_IMAGE_TYPE: "a copy of the type of first images"}
    return tensors._replace(values=tensors.values | copied, remarks=tensors.remarks | remarks)


def _timm_weights(model: str) -> Weights:
    """ImageNet weights of the plain twin, from the source in the model's ``pretrained_cfg``."""
    entry, arguments = trunk_named(model).call(model)
    try:
        twin = timm.create_model(entry, **arguments, pretrained=True, num_classes=0, top_down="none")
    except (OSError, RuntimeError) as error:
        raise InputError(f"vision.weights timm: no weights for {model} to be had: {first_line(error)}") from error
    settings: Any = twin.pretrained_cfg  # timm's dict
    origin = next(filter(None, map(settings.get, ("file", "hf_hub_id", "url"))), model)
    return Weights(twin.state_dict(), f"timm ({origin})")


@contextmanager
def _named_in_errors(beginning: str) -> Iterator[None]:
    """Turn errors about weights that do not fit into one line that begins with ``beginning``."""
    try:
        yield
    except (RuntimeError, InputError) as error:
        reason = one_line(error)
        raise InputError(f"{beginning}: {reason:.300}") from error
