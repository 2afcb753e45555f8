"""Fixtures shared by all tests: where real data is, and a tiny model of the real architecture."""

import os
from pathlib import Path

# Tests fetch nothing; a name that is no folder is an error at once. The libraries read this when they are imported.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parents[1] / "shared"
WHOLE_PROGRAMS = ("scripts", "data_prep", "hostile", "benchmarks")

# The first backward pass of a process looks for devices, and where it finds some no fork of the process can take one.
# It is taken here, before any test pretends that there is a device.
torch.zeros(1, requires_grad=True).sum().backward()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that run whole programs are slow, all of them; the rest are unit tests."""
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in WHOLE_PROGRAMS:
            item.add_marker("slow")


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


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
