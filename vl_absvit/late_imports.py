"""Libraries that other libraries import at once and call hardly ever: in our programs they wait until they are called.

torchvision, timm and transformers take single functions of ``torch._dynamo``, the compiler, and the losses of
transformers take one of scipy. Nothing here calls them, and importing them takes a third of all imports' time. While
the modules that ask for them are imported, a stand-in is in the library's place. A function of it imports the library
when it is called. A decorator of it leaves a function as it is until somebody imports the library, which then decorates
it. Whatever else is asked of a stand-in imports the library at once: with another version of these libraries a program
may start more slowly, and does the same.
"""

import functools
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, NamedTuple


class Late(NamedTuple):
    """Functions of a library that a module imports, and that hardly anybody calls."""

    library: str
    functions: tuple[str, ...]
    decorate: bool = False  # they are decorators, which matter to the library alone


_DECORATORS = Late("torch._dynamo", ("allow_in_graph", "assume_constant_result", "disable"), decorate=True)
LATE = {
    "timm.models.naflexvit": _DECORATORS,
    "torchvision.ops.roi_align": Late("torch._dynamo.utils", ("is_compile_supported",)),
    "transformers.generation.continuous_batching.cache": _DECORATORS,
    "transformers.integrations.deepgemm": _DECORATORS,
    "transformers.integrations.finegrained_fp8": _DECORATORS,
    "transformers.integrations.flex_attention": _DECORATORS,
    "transformers.integrations.sonicmoe": _DECORATORS,
    "transformers.loss.loss_utils": Late("scipy.optimize", ("linear_sum_assignment",)),
    "transformers.masking_utils": Late("torch._dynamo._trace_wrapped_higher_order_op", ("TransformGetItemToIndex",)),
    "transformers.modeling_utils": _DECORATORS,
}
"""What is imported late, by the module that asks for it. ``tests/scripts/test_start.py`` says whether it is."""


_waiting: dict[str, list[Callable[[], None]]] = defaultdict(list)
"""What a library has to decorate once it is imported."""


def import_late() -> None:
    """Have this process import what ``LATE`` names when it is called. A program does so before it imports torch."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the modules of ``LATE``, and libraries that something waits for, where they are."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        late = LATE.get(fullname)
        if late is not None and not isinstance(sys.modules.get(late.library, _StandIn(late)), _StandIn):
            late = None
        if late is None and fullname not in _waiting:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, late)
        return spec


class _Loader(Loader):
    """Loads a module as its own loader does, to which it leaves it."""

    def __init__(self, own: Loader, late: Late | None) -> None:
        self._own, self._late = own, late

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None, "it was found"
        module.__spec__.loader = module.__loader__ = self._own
        with nullcontext() if self._late is None else _in_place_of(self._late):
            self._own.exec_module(module)
        for decorate in _waiting.pop(module.__name__, []):
            decorate()


@contextmanager
def _in_place_of(late: Late) -> Iterator[None]:
    before = sys.modules.get(late.library)
    sys.modules[late.library] = _StandIn(late)
    try:
        yield
    finally:
        _remove_stand_in(late.library)
        if before is not None:  # another stand-in, of a module that is being imported
            sys.modules.setdefault(late.library, before)


class _StandIn(ModuleType):
    """A library with a few functions. Anything else is the library's own."""

    def __init__(self, late: Late) -> None:
        super().__init__(late.library)
        self._late = late
        for function in late.functions:
            setattr(self, function, (_decorator if late.decorate else _called_late)(late.library, function))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and not (name == "__path__" and self._late.decorate):  # a parent of other modules
            raise AttributeError(name)
        return getattr(_library(self._late.library), name)


def _called_late(library: str, name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(_library(library), name)(*arguments, **options)

    return call


def _decorator(library: str, name: str) -> Callable[..., Any]:
    def decorate(function: Callable[..., Any] | None = None, *arguments: Any, **options: Any) -> Callable[..., Any]:
        if function is None:
            return lambda function: decorate(function, *arguments, **options)
        calls = [function]

        @functools.wraps(function)
        def call(*inputs: Any, **named: Any) -> Any:
            return calls[0](*inputs, **named)

        def decorate_now() -> None:
            calls[0] = getattr(sys.modules[library], name)(function, *arguments, **options)

        _waiting[library].append(decorate_now)
        return call

    return decorate


def _library(name: str) -> ModuleType:
    _remove_stand_in(name)
    return import_module(name)


def _remove_stand_in(name: str) -> None:
    if isinstance(sys.modules.get(name), _StandIn):
        del sys.modules[name]
