"""Weights of the releases of VARS and RVT in the names of the trunks here.

All names of blocks with queries are the same. A block with VARS-S is a layer of its own there.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.models.trunks.base import Dropped, ForeignTrunk

STATIC = {  # in a block with VARS-S: the release's name -> ours
    r"(kernel2?|L)": r"attn.\1",
    r"v\.(weight|bias)": r"attn.qkv.\1",
    r"proj\.(weight|bias)": r"attn.proj.\1",
    r"norm1\.bn\.(.+)": r"attn.norm.\1",
    r"norm2\.bn\.(.+)": r"norm2.\1",
}
NEVER_READ = "the release stores it and never reads it"
UNDECIDABLE = (
    "a file of the VARS release, which does not tell whether queries had unit norm: name one with "
    "vision.vars_generation (convert-released: --vars-generation), linked (the commit that links the weights) or head "
    "(the release's end)"
)
BLOCK = re.compile(r"(?P<block>(?:transformers\.[0-9]{1,4}\.)?blocks\.[0-9]{1,4})\.(?P<rest>.+)")


def in_our_names(found: ForeignTrunk, options: Mapping[str, Any]) -> ForeignTrunk:
    """A trunk of the release, renamed; what is named as here stays.

    Args:
        options: arguments of the attention layers here.

    Raises:
        InputError: the file does not tell its generation, and the options name none.
    """
    static = {match["block"] for name in found.state if (match := BLOCK.fullmatch(name)) and match["rest"] == "kernel2"}
    state: dict[str, Tensor] = {}
    dropped = list(found.dropped)
    for name, value in found.state.items():
        match = BLOCK.fullmatch(name)
        block, rest = (match["block"], match["rest"]) if match else ("", "")
        is_dead = rest == "kernel_norm" if block in static else _is_dead_bound(block, rest, found.state)
        if is_dead:
            dropped.append(Dropped(found.prefix + name, value.numel(), NEVER_READ))
        else:
            state[_static_name(block, rest) if block in static else name] = value
    _check_generation(state, dropped, options.get("generation"))
    return found._replace(state=state, dropped=dropped)


def _check_generation(state: Mapping[str, Tensor], dropped: Sequence[Dropped], generation: str | None) -> None:
    """Raise ``InputError`` where a file of the release is of another generation, or does not tell of which."""
    is_released = any(weight.reason == NEVER_READ and weight.name.endswith(".attn.L") for weight in dropped)
    is_learned = any(name.endswith(".attn.learned_k") for name in state)
    if is_released and is_learned and generation is None:
        raise InputError(UNDECIDABLE)
    if is_released and is_learned != (generation != "ista"):
        found, fitting = ("learned", "linked or head") if is_learned else ("no learned", "ista")
        raise InputError(
            f"a file of the VARS release with {found} matrices: expected vision.vars_generation {fitting}, got "
            f"{generation or 'none'}"
        )


def _is_dead_bound(block: str, rest: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a weight is the bound L that VARS-D and -SD store; that of VARS-S is read, here beside its kernel."""
    return rest == "attn.L" and f"{block}.attn.kernel2" not in state


def _static_name(block: str, rest: str) -> str:
    matches = ((re.fullmatch(pattern, rest), name) for pattern, name in STATIC.items())
    return f"{block}.{next((match.expand(name) for match, name in matches if match), rest)}"
