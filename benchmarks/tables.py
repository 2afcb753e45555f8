"""How benchmarks show numbers."""

from rich.table import Table


def table_of(*columns: str) -> Table:
    """A table of names in the first column and numbers in the others."""
    table = Table(*columns)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def number(value: float) -> str:
    """Three digits, or all of a large number's."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def span(values: dict[str, float], scale: float = 1.0) -> str:
    """Median, and from the least to the greatest; of ``Spread._asdict()``."""
    median, low, high = (number(scale * values[name]) for name in ("median", "low", "high"))
    return f"{median} ({low}-{high})"
