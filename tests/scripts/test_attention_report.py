"""The page in a browser: it draws the maps where they belong, answers to its controls, and trusts no text."""

import base64
import io
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from tests.browser import chromium_page
from tests.exported import add_caption, add_picture, add_question, blob
from tests.run_script import run_script
from vl_absvit.looking.export_reader import read_exported, read_index
from vl_absvit.looking.overlay import spread
from vl_absvit.looking.report_page import write_report

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
PEAK = {"prior_mask": blob(4, 4, 3, 0, 0.8), "cross": np.full((4, 4), 0.5, dtype=np.float32)}
OTHERS = 30
KNOWN = [  # id, question, answer type, accuracy
    ("20", "What colour is the ball?", "other", 100.0),
    ("3", "Is the BALL red?", "yes/no", 0.0),
    ("100", HOSTILE, "other", 0.0),
    ("4", "How many balls are there?", "number", 30.0),
    ("own", "Where would a cat sleep?", None, None),
]


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Five questions that differ, and many like each other."""
    folder = tmp_path_factory.mktemp("export")
    for id, question, answer_type, accuracy in KNOWN:
        answers = {} if answer_type else {"answers": None, "question_id": None, "image_id": None}
        add_question(folder, id, PEAK, question=question, answer_type=answer_type, accuracy=accuracy, **answers)
    for number in range(OTHERS):
        add_question(folder, f"{1000 + number}", PEAK, question=f"Ordinary question {number}?")
    return folder


@pytest.fixture(scope="module")
def visit(export):
    """A tab on a phone's screen."""
    assert run_script("scripts/attention_report.py", "--maps", export, "--output", export / "report.html") == 0
    with chromium_page(viewport={"width": 390, "height": 700}) as visit:
        yield visit


@pytest.fixture
def page(visit, export):
    """The page, freshly opened."""
    visit.page.emulate_media(color_scheme="light")
    visit.complaints.clear()
    visit.requests.clear()
    visit.page.goto((export / "report.html").as_uri())
    return visit.page


def questions(page):
    """Of the cards that are shown, from top to bottom."""
    return page.locator(".card:visible h2").all_text_contents()


def tile(page, title):
    """The first card's tile of a map."""
    return page.locator(".card .tile").filter(has=page.get_by_text(title, exact=True)).first


def pixels(locator):
    """What is on the screen where an element is."""
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"), dtype=int)


def drawn(page):
    """Red, green, blue and opacity of the first map that is drawn: (height, width, 4)."""
    uri = page.locator("canvas.map").first.evaluate("map => map.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_the_page_opens_without_a_complaint_and_asks_for_nothing_but_itself(page, visit, export):
    page.locator("canvas.map").first.wait_for()
    assert visit.complaints == [] and {*visit.requests} == {(export / "report.html").as_uri()}
    assert page.locator(".card").count() == len(KNOWN) + OTHERS
    assert page.locator("#counts dd").all_inner_texts() == ["35", "1", "92.1 %"]
    assert page.locator("#counts dt").all_inner_texts() == ["questions", "pictures", "accuracy over 34 questions"]


def test_a_card_tells_what_the_model_and_people_said(page):
    card = page.locator(".card").first
    assert card.locator(".said").first.inner_text().split("\n") == ["model", "red", "75 % sure", "✓ right"]
    assert card.locator("bdi").all_inner_texts() == ["red", "dark red", "blue"]
    assert card.locator(".given i").all_inner_texts() == ["×6", "×3", "×1"]
    own = page.locator(".card").nth(4)
    assert "answers not known" in own.text_content() and own.locator(".verdict").count() == 0


def test_a_map_is_drawn_where_it_belongs(page):
    page.locator("canvas.map").first.wait_for()
    colours, opacity = np.split(drawn(page), [3], axis=-1)
    opacity = opacity[..., 0]
    height, width = opacity.shape
    box = (width / 6, 0, width * 5 / 6, height)  # the middle square of a picture of 3 : 2
    heat = spread(PEAK["prior_mask"], box, (width, height))
    inside = np.zeros((height, width), dtype=bool)
    inside[10:-10, round(box[0]) + 10 : round(box[2]) - 10] = True
    found = (1 - opacity / 255) / 0.6
    assert np.abs(found - heat)[inside].max() < 0.1 and np.abs(found - heat)[inside].mean() < 0.01
    assert (colours[:, : int(box[0]) - 1] == 128).all() and (opacity[:, : int(box[0]) - 1] == 255).all()


def test_strength_0_shows_the_picture_and_more_strength_covers_it_more(page):
    page.locator("canvas.map").first.wait_for()
    picture = pixels(tile(page, "picture").locator(".frame"))
    differences = []
    for strength in ("0", "40", "100"):
        page.locator("#strength").fill(strength)
        covered = pixels(tile(page, "prior mask").locator(".frame"))
        differences.append(np.abs(covered - picture).mean())
    assert differences[0] < 1 and differences[1] > 10 and differences[2] > 1.5 * differences[1]
    assert page.locator("#strength-shown").inner_text() == "100 %"


def test_maps_are_shown_by_choice(page):
    assert tile(page, "prior mask").is_visible() and not tile(page, "cross-attention").is_visible()
    page.get_by_label("cross-attention", exact=True).first.check()
    page.get_by_label("prior mask", exact=True).first.uncheck()
    assert not tile(page, "prior mask").is_visible()
    assert tile(page, "cross-attention").locator("canvas").is_visible()
    assert "0.5 everywhere" in tile(page, "cross-attention").inner_text()


@pytest.mark.parametrize(
    ("verdict", "asked"), [("wrong", [KNOWN[1][1], HOSTILE]), ("partly", [KNOWN[3][1]]), ("unknown", [KNOWN[4][1]])]
)
def test_questions_are_filtered_by_how_they_were_answered(page, verdict, asked):
    page.locator("#verdict").select_option(verdict)
    assert questions(page) == asked
    assert page.locator("#shown").inner_text() == f"{len(asked)} of 35 questions"


def test_questions_are_filtered_by_answer_type(page):
    assert page.locator("#type option").all_inner_texts() == [
        "all", "number (1)", "other (32)", "yes/no (1)", "not known (1)",
    ]  # fmt: skip
    page.locator("#type").select_option(label="yes/no (1)")
    assert questions(page) == ["Is the BALL red?"]


def test_questions_are_found_by_their_words_in_any_case(page):
    page.locator("#search").fill("  ball ")
    assert questions(page) == [KNOWN[0][1], KNOWN[1][1], KNOWN[3][1]]
    page.locator("#verdict").select_option("wrong")
    assert questions(page) == [KNOWN[1][1]]
    page.locator("#search").fill("zebra")
    assert questions(page) == [] and page.locator("#empty").is_visible()


def test_questions_are_put_in_order_and_the_unknown_comes_last(page):
    page.locator("#search").fill("")
    page.locator("#order").select_option("id")
    assert questions(page)[:3] == [KNOWN[1][1], KNOWN[3][1], KNOWN[0][1]]  # 3, 4, 20
    page.locator("#order").select_option("least accurate")
    assert questions(page)[:3] == [KNOWN[1][1], HOSTILE, KNOWN[3][1]] and questions(page)[-1] == KNOWN[4][1]
    page.locator("#order").select_option("most accurate")
    assert questions(page)[0] == KNOWN[0][1] and questions(page)[-2:] == [HOSTILE, KNOWN[4][1]]
    page.locator("#order").select_option("exported")
    assert questions(page)[:5] == [question for _, question, _, _ in KNOWN]
    assert page.locator("#order option").count() == 4  # nothing is known about agreement


def test_hostile_text_stays_text(page):
    assert questions(page)[2] == HOSTILE
    assert page.evaluate("window.hacked") is None and page.locator("script").count() == 2


@pytest.fixture
def server():
    """The address of a server, and the paths that it was asked for."""
    asked = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as listener:
        Thread(target=listener.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}", asked
        listener.shutdown()


def test_the_policy_stops_what_a_text_might_smuggle_in(page, visit, server):
    address, asked = server
    page.evaluate(
        """async (address) => {
          document.body.insertAdjacentHTML("beforeend", `<img src='${address}/x.png' onload='hacked = 3' id='added'>`);
          document.body.append(Object.assign(document.createElement("script"), {textContent: "hacked = 4"}));
          await fetch(`${address}/data`).catch(() => null);
        }""",
        address,
    )
    refused = [line for line in visit.complaints if "Content Security Policy" in line]
    assert page.locator("#added").count() == 1 and len(refused) >= 4
    assert page.evaluate("window.hacked") is None and asked == []


def test_only_cards_near_the_screen_are_drawn(page):
    page.locator("canvas.map").first.wait_for()
    assert 0 < page.locator("canvas.map").count() < 10
    last = page.locator(".card").last
    last.scroll_into_view_if_needed()
    last.locator("canvas.map").wait_for()
    assert page.locator(".card").first.locator("canvas").count() == 0


def test_nothing_is_wider_than_a_phone_and_darkness_is_respected(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    title = page.locator("h1")
    assert pixels(title).mean() > 180
    page.emulate_media(color_scheme="dark")
    assert pixels(title).mean() < 80


def test_captions_show_their_match_and_no_controls_of_answers(visit, tmp_path):
    for id, match in (("1", 0.25), ("2", 0.75)):
        add_caption(tmp_path, id, match=match)
    assert run_script("scripts/attention_report.py", "--maps", tmp_path, "--output", tmp_path / "report.html") == 0
    page = visit.page
    visit.complaints.clear()
    page.goto((tmp_path / "report.html").as_uri())
    page.locator("canvas.map").first.wait_for()
    said = page.locator(".card").first.locator(".said").all_inner_texts()
    assert [line.split("\n") for line in said] == [["model", "match 25.0 %", "ranking score -1.50"]]
    assert page.locator("#counts dt").all_inner_texts() == ["captions", "pictures", "mean match"]
    assert not page.locator("#type").is_visible() and not page.locator("#verdict").is_visible()
    page.locator("#order").select_option("best match")
    assert page.locator(".card .about").all_text_contents() == ["caption 2 · image 1", "caption 1 · image 1"]
    assert visit.complaints == []


def test_pictures_without_texts_have_a_page_of_their_classes_and_people(visit, tmp_path):
    for id in ("1", "2"):
        add_picture(tmp_path, id, PEAK, picture=f"{HOSTILE}{id}.png")
    records = [read_exported(tmp_path, entry) for entry in read_index(tmp_path)]
    write_report(records, tmp_path / "report.html", {"2": blob(8, 12, 4, 3)}, {"2": 1.5}, show=["cross"])
    page = visit.page
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("#counts dt").all_inner_texts() == [
        "pictures",
        "with human maps",
        "mean agreement over 1 pictures",
    ]
    assert page.locator(".card .said").first.inner_text().split() == ["model", "ball", "75", "%", "sure"]
    assert page.locator(".agreement").all_inner_texts() == ["agreement 1.50"]
    assert not page.locator("#type").is_visible() and not page.locator("#verdict").is_visible()
    assert page.locator("#shown").inner_text() == "2 of 2 pictures"
    assert visit.complaints == [] and page.evaluate("window.hacked") is None


def test_people_are_shown_beside_the_model_where_they_were_asked(visit, tmp_path):
    for id in ("10", "11", "12"):
        add_question(tmp_path, id, PEAK, question=f"Question {id}?", question_id=int(id))
    records = [read_exported(tmp_path, entry) for entry in read_index(tmp_path)]
    human, agreement = {"11": blob(8, 12, 4, 3), "12": blob(8, 12, 4, 9)}, {"11": -0.25, "12": 0.5}
    write_report(records, tmp_path / "report.html", human, agreement, show=["cross"])
    page = visit.page
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("#counts dd").all_inner_texts() == ["3", "1", "100.0 %", "2", "0.13"]
    assert page.locator("#counts dt").last.inner_text() == "mean agreement over 2 questions"
    tiles = [card.locator(".tile:visible b").all_text_contents() for card in page.locator(".card").all()]
    assert tiles == [["picture", "cross-attention"]] + 2 * [["picture", "people", "cross-attention"]]
    assert page.locator(".agreement").all_text_contents() == ["agreement -0.25", "agreement 0.50"]
    page.locator("#order").select_option("most agreement")
    assert questions(page) == ["Question 12?", "Question 11?", "Question 10?"]
    page.locator("#order").select_option("least agreement")
    assert questions(page) == ["Question 11?", "Question 12?", "Question 10?"]


def test_a_part_of_an_export_says_so(export, tmp_path, visit, capfd):
    output = tmp_path / "part.html"
    assert run_script("scripts/attention_report.py", "--maps", export, "--output", output, "--limit", 2) == 0
    assert "2 questions, 1 pictures" in capfd.readouterr().out
    visit.page.goto(output.as_uri())
    assert visit.page.locator("#note").inner_text() == "The first 2 of 35 exported questions."


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (2, ["--limit", 0], "--limit must be at least 1"),
        (2, ["--show", "prior"], "the export has no map 'prior'; there are prior_mask, cross"),
        (1, ["--maps", "nowhere"], "nowhere/index.jsonl: no such file"),
    ],
)
def test_a_wrong_command_costs_one_line_and_writes_nothing(export, tmp_path, complaint, code, options, message):
    usual = ["--maps", export, "--output", tmp_path / "report.html"]
    assert message in complaint(code, "scripts/attention_report.py", *usual, *options)
    assert not list(tmp_path.iterdir())
