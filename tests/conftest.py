"""Fixtures shared by all tests: where real data is, and a tiny model of the real architecture."""

import gc
import os
from pathlib import Path

# Tests fetch nothing; a name that is no folder is an error at once. The libraries read this when they are imported.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

from tests.fork_server import ForkServer, the_server

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parents[1] / "shared"
WHOLE_PROGRAMS = ("scripts", "data_prep", "hostile", "benchmarks")
DEAREST = (
    "scripts/test_demo_end_to_end.py", "training/test_engines.py", "scripts/test_kills.py", "test_planning.py",
    "scripts/test_app.py", "scripts/test_runs_that_stop.py", "scripts/test_streamed_runs.py",
    "benchmarks/test_gpu_check.py", "benchmarks/test_runs.py", "test_real_vqav2.py",
)  # fmt: skip
"""Files that take longest begin first, so that no process waits for one of them at the end."""

# What a process leaves behind does not depend on it, and tests would wait for the disk as long as they compute.
os.fsync = lambda descriptor: None

# The first backward pass of a process looks for devices, and where it finds some no fork of the process can take one.
# It is taken here, before any test pretends that there is a device.
torch.zeros(1, requires_grad=True).sum().backward()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that run whole programs are slow, all of them; the rest are unit tests. The dearest files come first."""
    order = {TESTS / file: place for place, file in enumerate(DEAREST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in WHOLE_PROGRAMS:
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """What is imported by now stays: nobody need look through it for garbage, again and again."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """At the end the server ends, and all is garbage again: some libraries complain of what is left over."""
    if the_server.cache_info().currsize:
        the_server().close()
    gc.unfreeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real excerpts, beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no folder of real data excerpts beside the checkout")
    return SHARED / "data"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of reference outputs of the authors' code, beside the checkout."""
    if not (SHARED / "golden").is_dir():
        pytest.skip("no folder of reference outputs beside the checkout")
    return SHARED / "golden"


@pytest.fixture(scope="session")
def fork_server() -> ForkServer:
    """Runs scripts in processes of their own."""
    return the_server()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
