"""The tables of the benchmark of loading."""

from typing import Any

from rich.console import Console

from benchmarks.tables import number, span, table_of


def show(console: Console, results: dict[str, Any]) -> None:
    """Rates per step and size, of one core, of loaders, and what GPUs need."""
    steps = next(iter(results["sizes"].values()))["images_per_second"]
    table = table_of("images per second of one core", "kB per file", *steps)
    for size, measured in results["sizes"].items():
        rates = [span(rate) for rate in measured["images_per_second"].values()]
        table.add_row(size, number(measured["bytes_per_image"] / 1e3), *rates)
    console.print(table)
    others = next(iter(results["sizes"].values()))["times_as_fast"]["randaugment"]
    table = table_of("times as fast, from file to tensor", *others)
    for size, measured in results["sizes"].items():
        for name, others in measured["times_as_fast"].items():
            table.add_row(f"{name}, {size}", *map(span, others.values()))
    console.print(table)
    for size, measured in results["sizes"].items():
        reduced = measured["reduced"]
        width, height = reduced["size"]
        console.print(
            f"{size} at reduced scale is {width} x {height}: the model's input differs by up to "
            f"{number(reduced['largest_difference'])} of 255, {number(reduced['mean_difference'])} on average"
        )
    for name, rate in results["per_core"].items():
        console.print(f"from file to tensor, {name}: {span(rate)} images/s per core, as many of each size")
    texts = ", ".join(f"{name} {span(rate)}" for name, rate in results["texts"]["per_second"].items())
    console.print(f"questions per second of one core: {texts}")
    console.print(f"tokenising ahead would save {results['texts']['saved_share']:.1%} of an image with one question")
    for name, rates in results["loaders"].items():
        for workers, rate in rates.items():
            console.print(f"a training loader of {name} with {workers} process(es): {span(rate)} images/s")
    for rate, needed in results["workers_needed"].items():
        processes = ", ".join(f"{count} with {name}" for name, count in needed.items())
        console.print(f"loader processes, a core each, for a GPU that trains on {int(rate):,} images/s: {processes}")
