"""Accuracy on domains that were left out, over seeds, of one recipe or several.

    vl-absvit tabulate-domains runs/domains --data data/pacs --output runs/domains/table [--against absvit]

Reads the runs of scripts/leave_one_out.sh: ROOT/RECIPE-SEED/TARGET/ has checkpoints/best, trained and selected on the
other domains of --data, and test.json, its evaluation on the target. Every run is held against --data: one that was
trained or selected on other pictures, or judged on others, is refused. Writes OUTPUT.md and OUTPUT.json: mean and
standard deviation over seeds of each target's top-1 accuracy and of their mean; with --against also the differences of
other recipes from that one, seed by seed.
"""

import re
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.data.json_files import read_json
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.domains import KIND

RESULT, TRAINING = "test.json", "checkpoints/best/training.json"
SPLITS = ("train", "val")


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the runs")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of prepare-domains")
    parser.add_argument("--against", metavar="NAME", help="recipe that others are compared with")
    parser.add_argument("--output", type=Path, required=True, metavar="STEM", help="STEM.md and STEM.json to write")
    arguments = parser.parse_args()
    from vl_absvit.evaluation.score_tables import Column, read_row, write_tables

    manifest = read_domains(arguments.data)
    names = recipes(arguments.root)
    if arguments.against not in (None, *names):
        raise ConfigError(f"--against: expected one of {', '.join(names)}, got {arguments.against!r:.60}")
    targets = list(manifest["splits"])
    results, read = [f"{target}/{RESULT}" for target in targets], partial(read_run, manifest=manifest)
    rows = {name: read_row(arguments.root, name, results, read) for name in names}
    columns = {target: Column(f"on {target}", 1) for target in targets} | {"mean": Column("mean", 1)}
    write_tables(rows, {"Top-1 accuracy on the domain left out": columns}, arguments.against, arguments.output)


def read_domains(data: Path) -> dict[str, Any]:
    """The manifest of prepared domains.

    Raises:
        InputError: the folder holds something else.
    """
    file = data / "manifest.json"
    manifest = read_json(file, dict)
    if manifest.get("kind") != KIND:
        raise InputError(f"{data}: expected a folder of vl-absvit prepare-domains, got {manifest.get('kind')!r:.60}")
    try:
        counts = [manifest["splits"][target]["test"]["images"] for target in manifest["splits"]]
        content = [manifest["content"][target][split] for target in manifest["splits"] for split in SPLITS]
    except (KeyError, IndexError, TypeError) as error:
        raise InputError(f"{file}: expected counts and contents of every domain's splits: {error!r}") from error
    if not counts or not all(type(count) is int for count in counts) or not all(type(each) is str for each in content):
        raise InputError(f"{file}: expected the number of pictures and the content of every domain's splits")
    return manifest


def recipes(root: Path) -> list[str]:
    """Names of the recipes with runs in a folder.

    Raises:
        InputError: there are none.
    """
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    names = dict.fromkeys(match[1] for name in folders if (match := re.fullmatch(r"(.+)-\d+", name)))
    if not names:
        raise InputError(f"{root}: expected runs such as absvit-0/sketch in it, there are none")
    return list(names)


def read_run(folder: Path, manifest: dict[str, Any]) -> dict[str, float]:
    """Accuracy on every target, and their mean, in percent.

    Raises:
        InputError: a model was trained, selected or judged on other pictures than those of the manifest.
    """
    scores = {target: read_target(folder / target, target, manifest) for target in manifest["splits"]}
    return scores | {"mean": mean(scores.values())}


def read_target(run: Path, target: str, manifest: dict[str, Any]) -> float:
    """Accuracy on one target, in percent; raises as ``read_run``."""
    trained = read_json(run / TRAINING, dict).get("content")
    if trained != {split: manifest["content"][target][split] for split in SPLITS}:
        raise InputError(f"{run}: was not trained and selected on the domains beside {target} of --data")
    result = read_json(run / RESULT, dict)
    try:
        folder, judged, accuracy = Path(result["data"]).parts[-2:], result["images"], result["top1"]
        if type(accuracy) not in (int, float) or not 0 <= accuracy <= 100:
            raise ValueError(f"top1 is {shown(accuracy)}")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{run / RESULT}: expected a result of vl-absvit evaluate-vision: {error!r}") from error
    images = manifest["splits"][target]["test"]["images"]
    if (folder, judged) != ((target, "test"), images):
        raise InputError(
            f"{run / RESULT}: expected {images} pictures of {target}/test, got {judged} of {'/'.join(folder)}"
        )
    return accuracy


if __name__ == "__main__":
    run_main(main)
