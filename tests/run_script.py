"""Commands run inside the test's process: the same code and exit codes without paying for the imports every time."""

import logging
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
        try:
            with pytest.raises(SystemExit) as stop:
                if script == "vl-absvit":
                    main()
                runpy.run_path(str(ROOT / script), run_name="__main__")
        finally:
            _close_log()
    return stop.value.code


def _close_log() -> None:
    """Let go of a run's log, as the end of its process would: what comes next does not belong into it."""
    log = logging.getLogger("vl_absvit")
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.propagate = True
