"""What every script shares: configuration from file and command line, one-line errors, progress bars."""

import argparse
import difflib
import functools
import json
import logging
import os
import re
import select
import sys
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_args, get_type_hints

import yaml
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vl_absvit.config import RENAMED, EvaluationPrecision, TaskConfig
from vl_absvit.config.shipped import find_config, nearest_configs
from vl_absvit.errors import ConfigError, InputError

if TYPE_CHECKING:
    import torch
    from jsonargparse import ArgumentParser

Config = TypeVar("Config", bound=TaskConfig)
SECONDS_BETWEEN_LINES = 10.0
_LARGEST_CONFIG = 1 << 20  # bytes
_NOBODY_READS = 141  # the exit code of programs that SIGPIPE ends
_LONGEST_HALF = 1000  # characters of a message, at its beginning and at its end


def run_main(main: Callable[[], None]) -> NoReturn:
    """Run a script's main and exit: 0 done, 2 a usage or config error, 1 an error of the input, 130 interrupted, and
    141, without a word, where nobody reads stdout any more, such as ``head`` or a pager that was left.

    ``InputError`` and ``OSError`` become one line on stderr; any other exception is ours and keeps its traceback.
    """
    try:
        main()
        sys.stdout.flush()
    except ConfigError as error:
        _stop(2, error)
    except BrokenPipeError as error:
        if _is_read():
            _stop(1, error)
        _exit(_NOBODY_READS)
    except (InputError, OSError) as error:
        _stop(1, error)
    except KeyboardInterrupt:
        _stop(130, "interrupted")
    _exit(0)


def _stop(code: int, reason: object) -> NoReturn:
    complain(reason)
    _exit(code)


def complain(reason: object) -> None:
    """Say what went wrong, in one line on stderr."""
    rank = f" (process {os.environ['RANK']})" if _is_one_of_several() else ""
    print(f"error{rank}: {_message(reason)}", file=sys.stderr, flush=True)  # noqa: T201


def write_json_line(record: Mapping[str, Any]) -> None:
    """A line of JSON on stdout, at once: who reads it may wait for it. The program ends when nobody reads any more."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(record, ensure_ascii=not is_utf8, allow_nan=False), flush=True)  # noqa: T201


def _is_read() -> bool:
    """Whether somebody still reads stdout. If not, what is left for it goes nowhere."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in watched.poll(0)):
        return True
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return False


def _exit(code: int) -> NoReturn:
    """End this process; one of several without Python's own last steps.

    In these, threads of the process group that are still letting go of a tensor may abort the process after all its
    work is done ("terminate called without an active exception"), ``destroy_process_group`` or not.
    """
    if _is_one_of_several():
        logging.shutdown()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _is_one_of_several() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def is_first_process() -> bool:
    """Whether this process is alone, or the first of those that a launcher started; known before torch is there."""
    return os.environ.get("RANK", "0") == "0"


def _message(reason: object) -> str:
    """One line, whatever a file's names and texts hold: what a terminal would obey is written as an escape.

    An error of a loader process arrives wrapped in its traceback, whose last line is the error itself.
    """
    text = str(reason).strip()
    if isinstance(reason, OSError) and reason.filename is not None and reason.filename2 is None:
        text = f"{reason.filename}: {reason.strerror}"
    if text.startswith("Caught ") and "Original Traceback" in text:
        text = text.splitlines()[-1].split(": ", 1)[-1]
    text = " ".join(text.split())
    if len(text) > 2 * _LONGEST_HALF:
        text = f"{text[:_LONGEST_HALF]} ... {text[-_LONGEST_HALF:]}"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class OptionParser(argparse.ArgumentParser):
    """argparse whose complaints are ``ConfigError``, with the nearest option where there is no such one."""

    def __init__(self, description: str) -> None:
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the command line."""
        unknown = re.search(r"unrecognized arguments: (--[^\s=]+)", message)
        hint = nearest(unknown[1], list(self._option_string_actions)) if unknown else "; see --help"
        raise ConfigError(f"command line: {message}{hint}")


def add_checkpoint_option(parser: argparse.ArgumentParser, kind: str) -> None:
    """``--checkpoint``, which ``hub.find`` finds.

    Args:
        kind: what it must be a checkpoint of, for the help.
    """
    text = f"folder of {kind}, or hub name[@REVISION]"
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help=text)


def add_images_option(parser: argparse.ArgumentParser) -> None:
    """``--images``, for a program that reads the pictures of prepared data."""
    parser.add_argument(
        "--images", metavar="DIR", help="folder of the raw images (default: beside --data as prepared, or where it was)"
    )


def add_block_option(parser: argparse.ArgumentParser, text: str) -> None:
    """``--block``, for a program that maps tokens."""
    default = "the third from the end, or the first that looks again if it comes later"
    parser.add_argument("--block", type=int, help=f"{text} (default: {default})")


def add_task_option(parser: argparse.ArgumentParser) -> None:
    """``--task``, for a program that takes a config of any task; ``tasks.registry.choose_task`` knows them all."""
    parser.add_argument("--task", metavar="KIND", help="what the config is for, such as vqa (default: its key task)")


def add_table_options(parser: argparse.ArgumentParser, made_by: str, against: str) -> None:
    """Runs in, tables out, for a program that tabulates rows of runs.

    Args:
        made_by: the script whose folder has the runs.
        against: the row that others are compared with unless another is named.
    """
    parser.add_argument("root", type=Path, metavar="ROOT", help=f"folder of {made_by}")
    parser.add_argument("--rows", nargs="+", required=True, metavar="NAME", help="rows in the order of the tables")
    parser.add_argument(
        "--against", default=against, metavar="NAME", help=f"row that the others are compared with (default: {against})"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="STEM", help="STEM.md and STEM.json to write")


def add_export_options(parser: argparse.ArgumentParser, written: str = "scores.json") -> None:
    """``--maps``, ``--map`` and ``--output``, for a program that judges an export of maps.

    Args:
        written: what ``--output`` may be called.
    """
    parser.add_argument("--maps", type=Path, required=True, metavar="EXPORT", help="folder of exported attention")
    parser.add_argument("--map", nargs="+", metavar="NAME", help="maps to judge (default: all that were exported)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=f"{written} to write")


def add_precision_option(parser: argparse.ArgumentParser) -> None:
    """``--precision``, for a program that runs a checkpoint."""
    parser.add_argument(
        "--precision",
        choices=get_args(EvaluationPrecision),
        default="fp32",
        help="arithmetic of the forward pass; weights and what is compared stay fp32; int8 is for CPUs (default: fp32)",
    )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """``--device``, for a program that runs a checkpoint on one device."""
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: the accelerator if there is one, else cpu)")


def choose_device(name: str | None) -> "torch.device":
    """The device that ``--device`` names.

    Raises:
        ConfigError: it cannot be used.
    """
    import torch

    if name is None:
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
        return device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"command line: --device {name} cannot be used: {reason}") from error


def add_loading_options(parser: argparse.ArgumentParser, batches: str, batch_size: int | None = 64) -> None:
    """``--batch-size``, ``--num-workers`` and ``--precision``, for a program that evaluates a checkpoint.

    Args:
        batches: what a batch holds, for the help.
        batch_size: the default.
    """
    default = "" if batch_size is None else f" (default: {batch_size})"
    parser.add_argument("--batch-size", type=int, default=batch_size, help=batches + default)
    add_workers_option(parser)
    add_precision_option(parser)


def evaluation_parser(
    description: str, *, checkpoint: str, data: str, split: str, batches: str, batch_size: int | None = 64
) -> OptionParser:
    """The command line of a program that evaluates a checkpoint on a split of prepared data; words are for the help."""
    parser = OptionParser(description)
    add_checkpoint_option(parser, checkpoint)
    parser.add_argument("--data", type=Path, required=True, metavar="OUT", help=data)
    add_images_option(parser)
    parser.add_argument("--split", required=True, help=split)
    add_loading_options(parser, batches, batch_size)
    return parser


def add_workers_option(parser: argparse.ArgumentParser) -> None:
    """``--num-workers``, for a program that loads pictures."""
    parser.add_argument("--num-workers", type=int, default=4, help="loader processes per process (default: 4)")


def check_loading_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Complain of numbers that ``add_loading_options`` does not mean."""
    if (arguments.batch_size is not None and arguments.batch_size < 1) or arguments.num_workers < 0:
        parser.error("--batch-size must be at least 1 and --num-workers at least 0")


@contextmanager
def log_on_stderr() -> Iterator[None]:
    """Inside, what the package has to say goes to the terminal."""
    log, handler = logging.getLogger("vl_absvit"), logging.StreamHandler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def parse_run_config(config_class: type[Config], argv: Sequence[str] | None = None) -> Config:
    """A run's config from ``--config``, a file or the name of a shipped one, and dotted overrides such as
    ``--optim.batch_size 64``.

    ``--help`` and ``--print_config`` print and exit. Whatever is wrong with a key or a value raises ``ConfigError``.
    Files and command line may use a key's earlier name (``RENAMED``). A group of keys is no option: torchrun takes
    ``--run`` for one of its own.
    """
    from jsonargparse import ArgumentError

    keys = config_keys(config_class)
    argv = _todays_options(sys.argv[1:] if argv is None else argv, keys)
    _check_command_line(argv, keys)
    parser = config_parser(config_class)  # type: ignore[arg-type]  # mypy takes a class for one of its instances
    try:
        parsed = parser.parse_args(_with_read_files(argv, keys))
        made = parser.instantiate(parsed)
    except ArgumentError as error:
        raise ConfigError(f"{_origin(error, argv)}: {_one_line(error)}") from error
    return config_class(**{field.name: made[field.name] for field in fields(config_class)})


@functools.cache
def config_parser(config_class: type) -> "ArgumentParser":
    """Options for every key, made once in a process."""
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(exit_on_error=False, description=config_class.__doc__)
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with any of the keys below, or name of a shipped one; the command line wins.",
    )
    parser.add_class_arguments(config_class, None)
    keys = config_keys(config_class)
    for option in parser._actions:
        if keys.get(option.dest):
            option.help = argparse.SUPPRESS
    return parser


def config_keys(config_class: type) -> dict[str, bool]:
    """Every dotted key of a config dataclass, in order; True marks a group of further keys."""
    keys = {}
    hints = get_type_hints(config_class)
    for field in fields(config_class):
        kind = hints[field.name]
        is_group = keys[field.name] = is_dataclass(kind)
        if is_group:
            keys |= {f"{field.name}.{key}": has_keys for key, has_keys in config_keys(kind).items()}
    return keys


def is_option(name: str, keys: Container[str]) -> bool:
    """Whether ``--name`` stands for one of the ``keys``, under its earlier name, too."""
    return _todays_name(name, keys) in keys


def _todays_name(name: str, keys: Container[str]) -> str:
    """The key that a name stands for; dashes are as good as underscores."""
    name = name if name in keys else name.replace("-", "_")
    return name if name in keys or RENAMED.get(name) not in keys else RENAMED[name]


def _todays_options(argv: Sequence[str], keys: Container[str]) -> list[str]:
    """The command line with keys under the names that they have today."""
    options = [word for word in argv if word.startswith("--")]
    _require_one_name([word[2:].split("=", 1)[0] for word in options], keys, "command line: --")
    today = []
    for word in argv:
        name, equals, value = word[2:].partition("=")
        today.append(f"--{_todays_name(name, keys)}{equals}{value}" if word in options else word)
    return today


def _require_one_name(names: Iterable[str], keys: Container[str], where: str) -> None:
    names = set(names)
    for old, new in RENAMED.items():
        if new in keys and {old, new} <= names:
            raise ConfigError(f"{where}{old} is the earlier name of {new}, which is given, too; expected one of them")


def _check_command_line(argv: Sequence[str], keys: Mapping[str, bool]) -> None:
    """Stop at the first option that does not exist, with the nearest one that does."""
    known = [*keys, "config", "help", "print_config"]
    for word in argv:
        name = word[2:].split("=", 1)[0]
        if word.startswith("--") and name not in known:
            raise ConfigError(f"command line: there is no option --{name}{nearest(name, known, '--')}")
        if word.startswith("--") and keys.get(name):
            first = next(key for key in keys if key.startswith(f"{name}."))
            raise ConfigError(f"command line: {name} is a group of keys; give them one by one, such as --{first}")


def _files_named(argv: Sequence[str]) -> list[str]:
    separate = [value for option, value in zip(argv, argv[1:], strict=False) if option == "--config"]
    return separate + [word.split("=", 1)[1] for word in argv if word.startswith("--config=")]


def _with_read_files(argv: Sequence[str], keys: Mapping[str, bool]) -> list[str]:
    """The command line with the content of every ``--config`` file in its place, as the parser takes it, too."""
    read, words = [], iter(argv)
    for word in words:
        if word == "--config" and (file := next(words, None)) is not None:
            word = f"--config={file}"
        if word.startswith("--config="):
            word = f"--config={_read_file(word.removeprefix('--config='), keys)}"
        read.append(word)
    return read


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, a few of which stand for billions of values, and without keys that are given twice."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not read; write out *{self.peek_event().anchor}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if repeated := [name for name, times in names.items() if times > 1]:
            raise yaml.YAMLError(f"the key {repeated[0]!r:.60} is given twice")
        return super().construct_mapping(node, deep)


def read_config(file: str) -> dict[str, Any]:
    """The keys and values of ``--config``, a file or the name of a shipped one.

    Raises:
        ConfigError: there is none, or it does not hold keys and values in YAML.
    """
    return _read_yaml(file)[1]


def _read_yaml(file: str) -> tuple[str, dict[str, Any]]:
    """A config file's text, and what it holds."""
    try:
        path = find_config(file)
        if (size := path.stat().st_size) > _LARGEST_CONFIG:
            raise ValueError(f"expected at most {_LARGEST_CONFIG:,} bytes, got {size:,}")
        with path.open("rb") as stream:
            text = stream.read(_LARGEST_CONFIG).decode("utf-8")
        content = yaml.load(text, _PlainLoader)
    except FileNotFoundError as error:
        near = ", ".join(nearest_configs(file))
        raise ConfigError(f"config {file}: {error.strerror}, nor a shipped config; the nearest are {near}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"config {file}: {getattr(error, 'strerror', None) or error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"config {file}: not YAML: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"config {file}: expected keys and values, got {type(content).__name__}")
    return text, content


def _read_file(file: str, keys: Mapping[str, bool]) -> str:
    """A config file's text, checked, with keys under the names that they have today."""
    text, content = _read_yaml(file)
    _require_one_name(content, keys, f"config {file}: ")
    for key, value in _flatten(content, keys):
        if key not in keys and RENAMED.get(key) not in keys:
            raise ConfigError(f"config {file}: there is no key {key!r}{nearest(key, keys)}")
        if keys.get(key) and not isinstance(value, dict):
            raise ConfigError(f"config {file}: {key} is a group of keys, got {value!r:.60}")
    return _renamed(text, keys)


def _renamed(text: str, keys: Container[str]) -> str:
    """A config's text with the keys at its top under the names that they have today, else as it is."""
    root = yaml.compose(text, _PlainLoader)
    assert isinstance(root, yaml.MappingNode), "the file holds keys and values"
    for key, _ in reversed(root.value):
        if key.value not in keys and RENAMED.get(key.value) in keys:
            text = text[: key.start_mark.index] + RENAMED[key.value] + text[key.end_mark.index :]
    return text


def _flatten(content: Mapping, keys: Mapping[str, bool], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in content.items():
        key = f"{prefix}{name}"
        yield key, value
        if keys.get(key) and isinstance(value, dict):
            yield from _flatten(value, keys, f"{key}.")


def nearest(name: str, valid: Sequence[str] | Mapping[str, bool], dashes: str = "") -> str:
    """Words that suggest the valid key closest to ``name``, comparing whole keys first, then their last part."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.75)
    if not close:
        last_part = {key.rsplit(".", 1)[-1]: key for key in valid}
        close = [last_part[part] for part in difflib.get_close_matches(name.rsplit(".", 1)[-1], list(last_part), n=1)]
    return f"; did you mean {dashes}{close[0]}?" if close else "; see --help for all of them"


def _origin(error: Exception, argv: Sequence[str]) -> str:
    """Where the value that ``error`` complains of was given: on the command line, which wins, or in the files."""
    key = re.search(r'"([\w.]+)"', str(error))
    given = [word.split("=", 1)[0] for word in argv]
    if key and f"--{key[1]}" in given:
        return "command line"
    return " ".join(_files_named(argv)) or "command line"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).replace("Parser key ", "").split())


class _Lines(Progress):
    """Progress for a log file: a plain line now and then instead of a bar."""

    def __init__(self, silent: bool) -> None:
        super().__init__(disable=True, auto_refresh=False)
        self._silent = silent
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._speak(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._speak(task_id)

    def _speak(self, task_id: TaskID) -> None:
        task = self.tasks[self.task_ids.index(task_id)]
        if self._silent or (time.monotonic() < self._next_line and not task.finished):
            return
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        total = "" if task.total is None else f"/{task.total:.0f}"
        left = "" if task.time_remaining is None else f", {task.time_remaining:.0f} s left"
        print(f"{task.description}: {task.completed:.0f}{total}, {task.elapsed or 0:.0f} s{left}", file=sys.stderr)  # noqa: T201


def progress() -> Progress:
    """A rich progress display on stderr: bar, count, time elapsed, time left.

    Use as ``with progress() as bar: for item in bar.track(items, description="reading"): ...``. It is silent in every
    process but the first; where stderr is no terminal it prints a plain line every ten seconds and at the end.
    """
    if not is_first_process() or not sys.stderr.isatty():
        return _Lines(silent=not is_first_process())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))
