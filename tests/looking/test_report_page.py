"""The page holds every question as it was exported, once, in a form that cannot be mistaken for markup."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tests.exported import add_caption, add_picture, add_question, blob, draw_picture
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.looking.export_reader import read_exported, read_index
from vl_absvit.looking.report_page import write_report

HOSTILE = "</script><script>window.hacked = 1</script><!-- <img src=x onerror='window.hacked = 2'> {{script}}"


class Page(HTMLParser):
    """Elements of a page in order, and the text in each kind of element."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._inside = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.text.setdefault(tag, []).append("")
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.text[self._inside][-1] += data

    @property
    def content(self):
        return json.loads(self.text["script"][0])

    @property
    def policy(self):
        [policy] = [given["content"] for _, given in self.elements if "http-equiv" in given]
        return policy


@pytest.fixture
def report(tmp_path):
    """Write the report of what is in the folder, and read it as a page."""

    def write(**options):
        records = [read_exported(tmp_path, entry) for entry in read_index(tmp_path)]
        write_report(records, tmp_path / "report.html", **options)
        return Page((tmp_path / "report.html").read_text(encoding="utf-8"))

    return write


def grid_of(sent):
    return np.frombuffer(base64.b64decode(sent["values"]), dtype=np.uint8).reshape(sent["shape"])


def test_a_question_arrives_with_everything_that_was_exported(tmp_path, report):
    add_question(tmp_path, "7", box=[16.0, 0.0, 80.0, 64.0])
    [card] = report().content["cards"]
    maps = card.pop("maps")
    assert list(maps) == ["prior_mask", "bottom_up", "top_down"]
    assert maps["prior_mask"]["box"] == pytest.approx([16 / 96, 0, 80 / 96, 1])
    assert card == {
        "about": "question",
        "id": "7",
        "image": 1,
        "type": "other",
        "text": "What colour is the ball?",
        "prediction": "red",
        "confidence": 0.75,
        "accuracy": 100.0,
        "answers": [["red", 6], ["dark red", 3], ["blue", 1]],
        "picture": 0,
        "size": [96, 64],
        "human": None,
        "agreement": None,
        "match": None,
    }


def test_a_caption_arrives_with_its_match_and_its_score(tmp_path, report):
    add_caption(tmp_path, "7")
    content = report().content
    (card,) = content["cards"]
    assert content["about"] == card["about"] == "caption" and list(card.pop("maps")) == content["show"]
    known = {"id": "7", "image": 1, "text": "a red ball", "match": 0.875, "score": -1.5, "picture": 0, "size": [96, 64]}
    assert card == known | {"about": "caption"} | dict.fromkeys(("human", "agreement", "type", "accuracy"))


def test_a_picture_without_a_text_arrives_with_its_class_and_where_people_looked(tmp_path, report):
    add_picture(tmp_path, "b")
    content = report(human={"b": np.eye(4)}, agreement={"b": 1.25}).content
    (card,) = content["cards"]
    assert content["about"] == card["about"] == "picture" and list(card.pop("maps")) == content["show"]
    assert card.pop("human")["box"] == [0, 0, 1, 1]
    known = {"id": "b", "image": None, "text": "balls/1.png", "prediction": "ball", "confidence": 0.75, "picture": 0}
    known |= {"size": [96, 64], "about": "picture", "agreement": 1.25}
    assert card == known | dict.fromkeys(("type", "accuracy", "match"))


def test_a_map_is_sent_between_its_smallest_and_largest_value(tmp_path, report):
    add_question(tmp_path, "1", {"cross": np.array([[-1.0, 0.0, 1.0], [3.0, 3.0, 3.0]], dtype=np.float32)})
    sent = report().content["cards"][0]["maps"]["cross"]
    assert grid_of(sent).tolist() == [[0, 64, 128], [255, 255, 255]]
    assert (sent["low"], sent["high"]) == (-1.0, 3.0)


def test_a_map_without_differences_is_weak_everywhere_and_says_its_value(tmp_path, report):
    add_question(tmp_path, "1", {"prior_mask": np.full((2, 2), 0.25, dtype=np.float32)})
    sent = report().content["cards"][0]["maps"]["prior_mask"]
    assert not grid_of(sent).any() and sent["low"] == sent["high"] == 0.25


def test_answers_that_are_equally_frequent_keep_their_order(tmp_path, report):
    add_question(tmp_path, "1", answers=["b", "a", "c", "a", "c"])
    assert report().content["cards"][0]["answers"] == [["a", 2], ["c", 2], ["b", 1]]


def test_hostile_text_stays_text(tmp_path, report):
    add_question(tmp_path, "1", question=HOSTILE, prediction=HOSTILE)
    page = report(title=HOSTILE, note=HOSTILE)
    [question] = page.content["cards"]
    assert question["text"] == question["prediction"] == page.content["title"] == page.content["note"] == HOSTILE
    assert [tag for tag, _ in page.elements].count("script") == 2 and ("img", {"src": "x"}) not in page.elements
    assert not [tag for tag, given in page.elements if any(name.startswith("on") for name in given)]


def test_the_policy_allows_the_pages_own_script_and_style_and_no_network(tmp_path, report):
    add_question(tmp_path, "1")
    page = report()
    for kind, text in (("script", page.text["script"][1]), ("style", page.text["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in page.policy
    assert page.policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in page.policy
    assert not re.search(r"https?://", (tmp_path / "report.html").read_text())


def test_a_picture_is_embedded_once_and_small(tmp_path, report):
    draw_picture(tmp_path / "pictures/2.png", (1200, 900))
    add_question(tmp_path, "1")
    add_question(tmp_path, "2", image="pictures/2.png", image_size=[1200, 900])
    add_question(tmp_path, "3", image="pictures/2.png", image_size=[1200, 900])
    content = report().content
    assert [card["picture"] for card in content["cards"]] == [0, 1, 1]
    sizes = [Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).size for uri in content["pictures"]]
    assert sizes == [(96, 64), (384, 288)]


def test_kinds_come_in_one_order_and_unknown_ones_keep_their_names(tmp_path, report):
    add_question(tmp_path, "1", {"mine": blob(2, 2, 0, 0), "cross": blob(2, 2, 0, 0)})
    add_question(tmp_path, "2", {"bottom_up": blob(2, 2, 0, 0)})
    content = report().content
    assert [kind["name"] for kind in content["kinds"]] == ["bottom_up", "cross", "mine"]
    assert [kind["title"] for kind in content["kinds"]] == ["bottom-up", "cross-attention", "mine"]
    assert content["show"] == ["bottom_up"]


def test_where_no_usual_map_is_exported_all_are_shown(tmp_path, report):
    add_question(tmp_path, "1", {"cross": blob(2, 2, 0, 0), "mine": blob(2, 2, 0, 0)})
    assert report().content["show"] == ["cross", "mine"]
    assert report(show=["mine"]).content["show"] == ["mine"]


def test_a_human_map_covers_the_whole_picture_and_is_averaged(tmp_path, report):
    add_question(tmp_path, "1", question_id=11)
    add_question(tmp_path, "2", question_id=None)
    drawn = np.zeros((128, 192))
    drawn[:, 96:] = 200
    first, second = report(human={"1": drawn, "99": drawn}, agreement={"1": 0.5}).content["cards"]
    assert first["human"]["box"] == [0, 0, 1, 1] and first["human"]["high"] == 200 and first["agreement"] == 0.5
    grid = grid_of(first["human"])
    assert grid.shape == (21, 32) and not grid[:, :16].any() and (grid[:, 16:] == 255).all()
    assert second["human"] is None and second["agreement"] is None


def test_the_counts_are_those_of_the_page(tmp_path):
    for id in ("1", "2", "3"):
        add_question(tmp_path, id, question_id=int(id))
    records = [read_exported(tmp_path, entry) for entry in read_index(tmp_path)]
    written = write_report(iter(records), tmp_path / "new/report.html", human={"2": blob(4, 4, 0, 0)})
    assert written[:3] == (3, 1, 1) and written.size == (tmp_path / "new/report.html").stat().st_size


@pytest.mark.parametrize(
    ("fields", "options", "error", "message"),
    [
        ({"image": "pictures/text.png"}, {}, InputError, "text.png: not an image"),
        ({"image_size": [64, 96]}, {}, InputError, "expected 64 x 96 pixels as exported, got 96 x 64"),
        ({}, {"show": ["prior"]}, ConfigError, "the export has no map 'prior'; there are prior_mask, bottom_up, top_"),
    ],
)
def test_a_report_that_cannot_be_made_leaves_the_old_one(tmp_path, report, fields, options, error, message):
    draw_picture(tmp_path / "pictures/1.png")
    (tmp_path / "pictures/text.png").write_text("no picture")
    (tmp_path / "report.html").write_text("old")
    add_question(tmp_path, "1")
    add_question(tmp_path, "2", **fields)
    with pytest.raises(error) as raised:
        report(**options)
    assert message in str(raised.value)
    assert (tmp_path / "report.html").read_text() == "old" and not list(tmp_path.glob(".report*"))


def test_no_question_is_no_report(tmp_path):
    with pytest.raises(InputError, match="no question"):
        write_report([], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
