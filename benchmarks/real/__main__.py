"""Genuine encoders on real photographs, part by part, and the table of what was found.

python -m benchmarks.real PART --data DATA --output OUT
scripts/real_check.sh runs all parts. DATA holds photo-groups/, coco-captions/ and osie/. A part writes OUT/PART.json;
what is there is not done again.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.real import parts, table
from benchmarks.real.parts import Places
from vl_absvit.cli import OptionParser, run_main
from vl_absvit.data.json_files import write_json

PARTS: dict[str, Callable[[Places], dict[str, Any]]] = {
    "encoders": parts.check_encoders,
    "photographs": parts.check_photographs,
    "stamps": parts.check_stamps,
    "captions": parts.check_captions,
    "fixations": parts.check_fixations,
}


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("part", choices=[*PARTS, "table"])
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="the real pictures")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", required=True, help="folder for what is made and measured"
    )
    parser.add_argument("--stamps", type=Path, metavar="DIR", help="Tux Paint's stamps, for the part of that name")
    arguments = parser.parse_args()
    part, output = arguments.part, arguments.output
    if part == "table":
        table.show(output)
        return
    file = output / f"{part}.json"
    if file.exists():
        print(f"{file}: finished already")  # noqa: T201
        return
    start = time.process_time()
    content = PARTS[part](Places(arguments.data, output, arguments.stamps))
    write_json(file, content | {"processor_seconds": round(time.process_time() - start, 1)}, indent=1)
    print(file)  # noqa: T201


if __name__ == "__main__":
    run_main(main)
