"""Start weights of trunks and whole models, put where they belong.

Positions and patches are resampled; everything else fits exactly, or is named in the account that every function here
gives (``load_report.py``). What has no place for a known reason is dropped; all else is an error.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import timm
from torch import Tensor, nn

from vl_absvit.errors import InputError
from vl_absvit.models.heads import VQAHead
from vl_absvit.models.labels import LabelMatch
from vl_absvit.models.load_report import RANDOM, Entry
from vl_absvit.models.looks import OWN, VisualEncoder
from vl_absvit.models.vl_model import VLAbSViT
from vl_absvit.models.weight_files import Weights, read_weights

log = logging.getLogger(__name__)

NO_PLACE = "this model has none"
ANSWER_LAYER, CLASS_LAYER = "head.3.", "head."
"""The last layer of a ``VQAHead``, and the one of a classifier; each of their rows is one label's."""


class Source(NamedTuple):
    """Where tensors come from."""

    text: str  # option and file
    in_model: str = ""  # what stands before their names in the whole model
    in_file: str = ""  # and in the file

    def entry(self, status: Literal["loaded", "resampled"], name: str, numbers: int, remark: str) -> Entry:
        """An account of a tensor that the model has."""
        return Entry(status, self.text, self.in_model + name, numbers, remark)

    def dropped(self, name: str, numbers: int, reason: str, tensors: int = 1) -> Entry:
        """An account of a tensor, or of rows of one, that the model has no use for."""
        return Entry("dropped", self.text, self.in_file + name, numbers, reason, tensors)


class Tensors(NamedTuple):
    """Tensors on their way into a model, by their names there, and how they came about."""

    values: dict[str, Tensor]
    remarks: dict[str, str]  # what was done to some of them
    resampled: set[str]  # names of those whose remark is a change of shape


def load_trunk(vision: VisualEncoder, weights: str, model: str, classes: LabelMatch | None = None) -> list[Entry]:
    """Start weights of the trunk from ``vision.weights``; new parameters stay as they are.

    Args:
        vision: the encoder, whose names begin with ``vision.`` in the account.
        weights: a file, a folder, or ``timm``.
        model: registered name of ``vision``.
        classes: the classes of a classifier beside those of the weights; None: nobody knows what its rows stand for.

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
    """Start weights of a whole model from the checkpoint folder ``from_checkpoint``.

    Positions are resampled. A head of another kind, and what only the model has (feedback, prior), stay as they are.

    Args:
        answers: the answers of a VQA head beside the checkpoint's; None where its head is of another kind.

    Raises:
        InputError: there are no such weights, or they do not fit.
    """
    option = "from_checkpoint"
    state, origin = read_weights(Path(folder), option)
    source = Source(f"{option} {origin}")
    with _named_in_errors(f"{option} {folder}: not the weights of the configured model"):
        tensors = _on_grid(Tensors(state, {}, set()), model.vision, prefix="vision.")
        tensors, entries = _without_another_head(tensors, model, is_vqa=answers is not None, source=source)
        if answers is not None:
            if f"{ANSWER_LAYER}weight" not in tensors.values:
                raise InputError(f"expected a head with answers, but there is no {ANSWER_LAYER}weight")
            tensors, rows = _with_rows(tensors, model, ANSWER_LAYER, answers, source)
            entries += rows
        differing = ("head.", "prior.", "vision.head.", *(f"vision.{name}" for name in OWN))
        return entries + _load(model, tensors, source, differing)


def fit_new_decoders(
    vision: VisualEncoder, entries: Sequence[Entry], fit: Callable[[VisualEncoder], str]
) -> list[Entry]:
    """Have the decoders fitted to the trunk where its weights were loaded and theirs were not.

    Args:
        entries: the account of what was loaded.
        fit: fits the decoders and says in words to what.

    Returns:
        An account of the decoders; empty where there was nothing to fit.
    """
    loaded = [entry.name for entry in entries if entry.status in ("loaded", "resampled")]
    if not vision.feeds_back or any(name.startswith("vision.decoders.") for name in loaded):
        return []
    if not any(name.startswith("vision.") for name in loaded):
        log.info("the trunk starts from random weights, to which no decoders can be fitted: theirs are random, too")
        return []
    source = f"vision.decoders {fit(vision)}"
    decoders = vision.decoders.named_parameters(prefix="vision.decoders")
    return [Entry("fitted", source, name, weight.numel()) for name, weight in decoders]


def load_pretrained(
    module: nn.Module, state: dict[str, Tensor], *, new: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    """Load ``state``, allowing only the named differences.

    ``new`` keeps its initialization, ``dropped`` is ignored where unknown.
    """
    result = module.load_state_dict(state, strict=False)
    missing = [key for key in result.missing_keys if not key.startswith(new)]
    unexpected = [key for key in result.unexpected_keys if not key.startswith(dropped)]
    if missing or unexpected:
        raise InputError(f"missing {missing[:3]} ({len(missing)}), unexpected {unexpected[:3]} ({len(unexpected)})")


def _load(module: nn.Module, tensors: Tensors, source: Source, differing: tuple[str, ...]) -> list[Entry]:
    """Load tensors into a module; only names that begin like ``differing`` may be on one side alone."""
    for key, value in tensors.values.items():
        if not value.is_floating_point():
            raise InputError(f"expected real numbers for {key}, got {value.dtype}")
    load_pretrained(module, tensors.values, new=differing, dropped=differing)
    own, entries = module.state_dict(), []
    for key, value in tensors.values.items():
        if key in own:
            status: Literal["loaded", "resampled"] = "resampled" if key in tensors.resampled else "loaded"
            entries.append(source.entry(status, key, value.numel(), tensors.remarks.get(key, "")))
        else:
            entries.append(source.dropped(key, value.numel(), NO_PLACE))
    return entries


def _on_grid(tensors: Tensors, vision: VisualEncoder, prefix: str = "") -> Tensors:
    """What follows the size of the image, such as a position table, in the shapes of ``vision``, where they differ.

    Args:
        prefix: of the encoder's names.
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
    """The rows of the last layer of a head where their labels stand in ``module``, whose own rows new labels keep.

    Returns:
        The tensors without that layer, which is loaded already, and an account of its rows.
    """
    own, values, entries = module.state_dict(), dict(tensors.values), []
    for name in (f"{layer}weight", f"{layer}bias"):
        value, mine = values.pop(name, None), own.get(name)
        if value is None:
            continue
        if mine is None or labels is None:
            reason = NO_PLACE if mine is None else "nobody knows which labels its rows stand for"
            entries.append(source.dropped(name, value.numel(), reason))
            continue
        if value.ndim == 0 or len(value) != labels.before or value.shape[1:] != mine.shape[1:]:
            raise InputError(
                f"{name}: expected the shape {(labels.before, *mine.shape[1:])} of {labels.before} labels, "
                f"got {tuple(value.shape)}"
            )
        kept = {row: before for row, before in enumerate(labels.rows) if before is not None}
        if kept:
            mine[list(kept)] = value[list(kept.values())].to(mine.dtype)  # the state shares the module's memory
        entries += _account_of_rows(labels, len(kept), mine[0].numel(), source, name)
    return tensors._replace(values=values), entries


def _account_of_rows(labels: LabelMatch, kept: int, width: int, source: Source, name: str) -> list[Entry]:
    """What became of the rows of one tensor, each of ``width`` numbers."""
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


def _without_another_head(tensors: Tensors, model: VLAbSViT, is_vqa: bool, source: str) -> tuple[Tensors, list[Entry]]:
    """The tensors without the head, if it is of another kind than the model's, and an account of what is left out.

    Args:
        is_vqa: whether it is a VQA head.
    """
    own = {key: value.shape for key, value in model.state_dict().items() if key.startswith("head.")}
    head = {key: value.shape for key, value in tensors.values.items() if key.startswith("head.")}
    if is_vqa if isinstance(model.head, VQAHead) else own == head:
        return tensors, []
    values = {key: value for key, value in tensors.values.items() if key not in head}
    return tensors._replace(values=values), [
        source.dropped(key, shape.numel(), "a head of another kind") for key, shape in head.items()
    ]


def _timm_weights(model: str) -> Weights:
    """ImageNet weights of the plain twin, from where the model's ``pretrained_cfg`` says."""
    try:
        twin = timm.create_model(model, pretrained=True, num_classes=0, top_down="none")
    except (OSError, RuntimeError) as error:
        raise InputError(f"vision.weights timm: no weights for {model} to be had: {_first_line(error)}") from error
    origin = next(filter(None, map(twin.pretrained_cfg.get, ("file", "hf_hub_id", "url"))), model)
    return Weights(twin.state_dict(), f"timm ({origin})")


@contextmanager
def _named_in_errors(what: str) -> Iterator[None]:
    """Turn whatever does not fit into one line that begins with ``what``."""
    try:
        yield
    except (RuntimeError, InputError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{what}: {reason:.300}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
