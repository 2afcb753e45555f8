"""The run folder: config.yaml, environment.json, metrics.jsonl, console.log, trackers/, checkpoints/{last,best}."""

import fcntl
import json
import logging
import sys
from pathlib import Path
from typing import Any

import yaml

from vl_absvit.config import TaskConfig
from vl_absvit.data.files import flush_to_disk, write_text
from vl_absvit.distributed import is_main
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.main_process import in_main_process
from vl_absvit.training.environment import changes, environment
from vl_absvit.training.same_run import check_same_run, config_as_dict

LOGGER = logging.getLogger("vl_absvit")
SELECT = "select/"  # before the names of an evaluation's metrics


class RunFolder:
    """One run's folder. Methods that write do nothing in other processes than the main one."""

    def __init__(self, folder: str | Path, is_main: bool) -> None:
        self.path = Path(folder)
        self.last = self.path / "checkpoints" / "last"
        self.best = self.path / "checkpoints" / "best"
        self.newest: tuple[Path | None] | None = None  # whole checkpoint, once it was looked for
        self._is_main = is_main

    def holds_a_run(self) -> bool:
        """Whether a run has trained here. A start that failed before its first step does not count."""
        return (self.path / "metrics.jsonl").exists() or (self.path / "checkpoints").exists()

    def write_metrics(self, **values: object) -> None:
        """Append one JSON object as a line of metrics.jsonl."""
        if self._is_main:
            path = self.path / "metrics.jsonl"
            try:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(values) + "\n")
            except OSError as error:
                raise InputError(f"{path}: cannot be written: {error.strerror}") from error

    def flush_metrics(self) -> None:
        """Flush the metrics to disk."""
        path = self.path / "metrics.jsonl"
        if self._is_main and path.exists():
            flush_to_disk(path)

    def scores_at(self, step: int) -> dict[str, float] | None:
        """The written metrics of the evaluation after ``step``; None if it did not finish."""
        path = self.path / "metrics.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            values = json.loads(line)
            scores = {key.removeprefix(SELECT): value for key, value in values.items() if key.startswith(SELECT)}
            if values["step"] == step and scores:
                return scores
        return None

    def forget_metrics_after(self, step: int) -> None:
        """Drop the lines of metrics.jsonl that a resumed run will write again, and a last line that was cut."""
        path = self.path / "metrics.jsonl"
        if not self._is_main or not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8", errors="backslashreplace").splitlines(keepends=True):
            try:
                if line.endswith("\n") and json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}: line {len(kept) + 1} is not one of ours: {line[:80]!r}") from error
        write_text(path, "".join(kept))


def open_run(config: TaskConfig) -> RunFolder:
    """Make the run folder of a config, or reopen it with ``run.resume``, and start its log. All processes call this.

    Raises:
        ConfigError: the folder holds a run without ``run.resume``, or a run of another config.
        InputError: another process is at work there, or what is there is not a run's.
    """
    run = RunFolder(config.run.output, is_main())
    if not is_main():
        _start_log(None)
    in_main_process(lambda: _begin(run, config))
    return run


def _begin(run: RunFolder, config: TaskConfig) -> None:
    """What the main process does in a folder before a run."""
    remarks = _check_folder(run, config)
    run.path.mkdir(parents=True, exist_ok=True)
    _start_log(run.path / "console.log")
    if not run.holds_a_run():
        write_text(run.path / "config.yaml", yaml.safe_dump(config_as_dict(config), sort_keys=False))
    environments = run.path / "environment.json"
    launches = [*_launches(environments), environment()]
    write_text(environments, json.dumps(launches, indent=1) + "\n")
    if config.run.resume and len(launches) > 1 and (different := changes(*launches[-2:])):
        LOGGER.warning("going on in another environment, results may differ: " + "; ".join(different))
    for remark in remarks:
        LOGGER.info(remark)


def _check_folder(run: RunFolder, config: TaskConfig) -> list[str]:
    """Refuse a folder in which this config cannot go on. Returns the permitted differences in words."""
    folder = run.path
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"run.output {folder} is a file, expected a folder")
    if not run.holds_a_run():
        return []
    if not config.run.resume:
        raise ConfigError(
            f"run.output {folder} already holds a run; choose another folder, or go on with --run.resume true"
        )
    try:
        written = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        return check_same_run(config, written, folder)
    except (OSError, yaml.YAMLError, ValueError, AttributeError) as error:
        if isinstance(error, ConfigError | InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{folder / 'config.yaml'} is not a run's config: {reason}") from error


def _launches(path: Path) -> list[dict[str, Any]]:
    """The earlier launches that ``environment.json`` records."""
    try:
        launches = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    except ValueError as error:
        raise InputError(f"{path}: expected JSON: {error}") from error
    if not (isinstance(launches, list) and all(isinstance(launch, dict) for launch in launches)):
        raise InputError(f"{path}: expected a list of launches, got {launches!r:.60}")
    return launches


class _Stderr(logging.Handler):
    """Writes log lines to the current ``sys.stderr``, which a progress bar may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)  # noqa: T201


def _start_log(file: Path | None) -> None:
    """Send the package's log to stderr and to ``file``. Without one, as in other processes, only warnings are logged.

    Raises ``InputError`` if another process is at work there.
    """
    for handler in list(LOGGER.handlers):
        LOGGER.removeHandler(handler)
        handler.close()
    LOGGER.propagate = False
    LOGGER.setLevel(logging.WARNING if file is None else logging.INFO)
    LOGGER.addHandler(_Stderr())
    if file is not None:
        to_file = logging.FileHandler(file, encoding="utf-8")
        _claim(to_file)
        to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        LOGGER.addHandler(to_file)


def _claim(log: logging.FileHandler) -> None:
    """Lock the log while this process lives, because two runs in one folder would spoil each other's files.

    An interrupted launcher may leave its run alive, and a scheduler may start the next run early. Forked processes do
    not hold this kind of lock, so that it ends with the run itself.
    """
    assert log.stream is not None, "an open log file has a stream"
    try:
        fcntl.lockf(log.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        folder = Path(log.baseFilename).parent
        log.close()
        raise InputError(f"run.output {folder}: another process is at work there") from error
    except OSError as error:  # not every network file system has locks
        LOGGER.warning(f"{log.baseFilename} cannot be locked ({error.strerror}): a second run here goes unnoticed")
