"""Commands run inside the test's process: the same code and exit codes without paying for the imports every time."""

import runpy
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from vl_absvit.__main__ import main

ROOT = Path(__file__).resolve().parents[1]


def run_script(script: str, *arguments: object) -> int:
    """Exit code of a script, named relative to the project's root, or of ``vl-absvit``, on one process of the CPU."""
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            patch.delenv(name, raising=False)
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            if script == "vl-absvit":
                main()
            runpy.run_path(str(ROOT / script), run_name="__main__")
    return stop.value.code
