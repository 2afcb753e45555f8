"""This checkout and another one of the project, to take turns with."""

from pathlib import Path

from vl_absvit.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
OURS, OTHER = "this checkout", "the other"


def checkouts(beside: Path | None, program: str) -> dict[str, Path]:
    """The folders of both by name; of this one alone where ``beside`` is None.

    Raises:
        ConfigError: the program is not in the other one.
    """
    ours = {OURS: ROOT}
    if beside is None:
        return ours
    if not (beside / program).is_file():
        raise ConfigError(f"--beside {beside}: expected a checkout of this project, there is no {program}")
    return ours | {OTHER: beside.resolve()}
