"""How costs grow: slopes by hand, every axis on a small model, a table, a picture, and processes that share a batch."""

import json

import pytest
from PIL import Image

from benchmarks import scaling
from benchmarks.measure import Measurements
from benchmarks.scaling import Point, slope, summarise
from benchmarks.team import Share, Team
from tests.benchmarks.test_naive import VARIANTS, make_model
from vl_absvit.config import VisionConfig
from vl_absvit.models.architecture import build_from_architecture


class OneProcess:
    """In place of a team: nothing runs."""

    def __init__(self, members, images, size, precision, folder):
        assert folder.is_dir() and not any(folder.iterdir())
        self.share, self.members = Share(100 // members, 10), members

    def train(self):
        pass

    def end(self):
        pass


@pytest.fixture
def small(monkeypatch):
    """A small model at small sizes, and teams of nobody."""

    def random_model(size, head, image_size):
        model = make_model(*VARIANTS[0], head, vocabulary=50265)
        architecture = model.architecture | {"vision": model.architecture["vision"] | {"image_size": image_size}}
        assert VisionConfig(**architecture["vision"]).image_size == image_size
        return build_from_architecture(architecture, "test").eval()

    sizes = dict(SIDE=32, PATCH=8, SIDES=(32, 64), QUESTIONS=(1, 3), CAPTIONS=(2, 4), IMAGES=(1, 2), FEWEST_CAPTIONS=2)
    for name, value in (sizes | {"random_model": random_model, "Team": OneProcess}).items():
        monkeypatch.setattr(scaling, name, value)
    monkeypatch.setattr("benchmarks.measure.MATMUL_SIDE", {"cpu": 16})
    monkeypatch.setenv("COLUMNS", "200")


def test_a_slope_is_the_exponent_of_a_power():
    assert slope([1, 2, 4], [3, 6, 12]) == pytest.approx(1)
    assert slope([1, 2, 4], [5, 20, 80]) == pytest.approx(2)
    assert slope([1, 2], [4, 2]) == pytest.approx(-1)
    assert slope([3], [4]) is None


def test_points_are_gathered_by_axis_with_the_slopes_of_their_medians():
    seconds = {Point(scaling.ASKED, 1): [1.0, 3.0, 2.0], Point(scaling.ASKED, 4): [4.0, 4.0, 4.0]}
    flops = {"matmul": 100, Point(scaling.ASKED, 1): 10, Point(scaling.ASKED, 4): 160}
    measured = Measurements({"matmul": [0.5] * 3} | seconds, flops, {Point(scaling.ASKED, 1): 7})
    result = summarise(measured, {Point(scaling.ASKED, 4): 7})
    (axis,) = result["axes"].values()
    assert [point["x"] for point in axis["points"]] == [1, 4]
    assert axis["points"][0]["seconds"] == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert axis["points"][1]["share_of_matmul_rate"] == 160 / 4 / 200
    assert axis["slopes"] == pytest.approx({"seconds": 0.5, "flop": 2.0, "bytes": 0.0})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_all_axes_are_measured_shown_drawn_and_written(small, tmp_path, capsys, precision):
    output, figure = tmp_path / "t.json", tmp_path / "t.png"
    scaling.run(
        size="tiny", device="cpu", precision=precision, processes=[2, 1], repeats=1, output=output, figure=figure
    )
    told = json.loads(output.read_text())
    axes = told["results"]["axes"]
    xs = {name: [point["x"] for point in axis["points"]] for name, axis in axes.items()}
    assert list(xs.values()) == [[16, 64], [1, 3], [2, 4], [1, 2], [1, 2]] and told["precision"] == precision
    for name, axis in axes.items():
        first, last = axis["points"]
        assert axis["slopes"]["flop"] < 0 if name == scaling.PROCESSES else last["flop"] > first["flop"]
        assert first["bytes"] > 0 and first["seconds"]["median"] > 0
        assert name == scaling.PROCESSES or last["bytes"] > first["bytes"]
    assert axes[scaling.ASKED]["slopes"]["flop"] < 1  # the first look is shared
    shown = capsys.readouterr().out
    assert "questions on an image" in shown and "operations ~ x^-1.00" in shown
    with Image.open(figure) as picture:
        assert min(picture.size) > 400


@pytest.mark.slow
def test_a_team_shares_a_batch(tmp_path):
    shares = []
    for members in (1, 2):
        folder = tmp_path / str(members)
        folder.mkdir()
        team = Team(members, 2, "tiny", "fp32", folder)
        team.train()
        team.end()
        shares.append(team.share)
    assert shares[0].flop == pytest.approx(2 * shares[1].flop, rel=0.02)
    assert shares[0].kept_bytes == pytest.approx(2 * shares[1].kept_bytes, rel=0.05)
