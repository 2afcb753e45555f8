"""What several preparations are tried on."""

from pathlib import Path

import pytest

from vl_absvit.demo.world import make_demo_world


@pytest.fixture(scope="session")
def demo_world(tmp_path_factory) -> Path:
    """A demo world of four scenes, to be read only."""
    folder = tmp_path_factory.mktemp("demo") / "world"
    make_demo_world(folder, seed=0, scenes=4, workers=1, track=lambda items, total, description: items)
    return folder
