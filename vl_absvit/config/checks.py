"""Checks of single values, which raise ``ConfigError`` under the name of the key."""

from math import inf

from vl_absvit.errors import ConfigError


def require(condition: bool, message: str) -> None:
    """Raise ``ConfigError`` with ``message`` unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def positive(group: str, **values: float | list[int] | None) -> None:
    """Refuse values of a group, or lists of values, that are 0 or less, or infinite. None is allowed."""
    for name, value in values.items():
        numbers = value if isinstance(value, list) else [] if value is None else [value]
        require(all(0 < number < inf for number in numbers), f"{group}.{name} must be positive, got {value}")


def not_negative(group: str, **values: float) -> None:
    """Refuse values of a group below 0, or infinite."""
    for name, value in values.items():
        require(0 <= value < inf, f"{group}.{name} must be at least 0, got {value}")


def below_one(group: str, **values: float) -> None:
    """Refuse values of a group outside of [0, 1)."""
    for name, value in values.items():
        require(0 <= value < 1, f"{group}.{name} must be in [0, 1), got {value}")
