"""The app: a person uploads a picture, asks, and sees where the model looks; nothing leaves the machine."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic, sleep
from types import ModuleType
from unittest.mock import patch

import pytest
import torch
from PIL import Image, ImageOps

from tests.browser import chromium_page
from tests.lively_vqa import lively_task
from tests.reverse_proxy import served_below
from tests.run_script import ROOT, run_script
from tests.tiny_vqa import tiny_retrieval_config
from vl_absvit.commands.app import find_host, free_port, make_page, open_index
from vl_absvit.errors import ConfigError
from vl_absvit.looking.live_model import LiveModel
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vqa import load_checkpoint

SCRIPT, PROXY = "scripts/app.py", "9"
HOSTILE = "</p><img src=x onerror='hacked = 1'><script>hacked = 2</script> ${hacked = 3} {{value}}"
# Python imports a module of this name before anything else. It notes who the process talks to, and where it listens.
LISTENER = """
import os, sys

def note(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo"):
        address = arguments[:2] if event == "socket.getaddrinfo" else arguments[1]
        host, port = address[:2] if isinstance(address, tuple) else (address, None)
        file = os.open(os.environ["TALKED_TO"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, f"{event} {host} {port}\\n".encode())
        os.close(file)

sys.addaudithook(note)
"""


@pytest.fixture(scope="module")
def checkpoint(world, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    torch.manual_seed(0)  # before the fixture that seeds each test
    lively_task(world, folder).save(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Files to upload, good and bad."""
    folder = tmp_path_factory.mktemp("pictures")
    picture = Image.radial_gradient("L").resize((160, 80)).convert("RGB")
    picture.save(folder / "wide.jpg")
    ImageOps.invert(picture).save(folder / "new.jpg")  # which one test alone uploads
    picture.resize((90, 90)).save(folder / "square.tif")
    (folder / "text.png").write_text("hello")
    return folder


def _hear_interrupts() -> None:
    """Shells start background jobs with interrupts ignored, and what these start inherits it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class App:
    """The app as a process of its own."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        (folder / "sitecustomize.py").write_text(LISTENER)
        self.temporary, self.talked_to, self.log = folder / "temporary", folder / "talked_to", folder / "log"
        self.temporary.mkdir()
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "TALKED_TO": str(self.talked_to),
            "TMPDIR": str(self.temporary),
            # A proxy that is not there.
            **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), f"http://127.0.0.1:{PROXY}"),
        }
        with self.log.open("w") as log:
            command = [sys.executable, SCRIPT, *map(str, arguments)]
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, preexec_fn=_hear_interrupts
            )
        self.address = self._wait_for_the_address()

    def _wait_for_the_address(self) -> str:
        give_up = monotonic() + 240
        while monotonic() < give_up and self.process.poll() is None:
            if found := re.search(r"http://\S+?(?=[; ])", self.log.read_text()):
                return found[0]
            sleep(0.2)
        self.process.kill()
        pytest.fail(f"the app did not start:\n{self.log.read_text()}")

    def close(self) -> int:
        """Interrupt it; its exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout=180)
        finally:
            self.process.kill()


@pytest.fixture(scope="module")
def app(checkpoint, pictures, tmp_path_factory):
    """A running app, which must talk to nobody and leave nothing."""
    try:
        installed = version("gradio")
    except PackageNotFoundError:
        pytest.skip("Gradio is not installed: pip install -e '.[app]'")
    if tuple(map(int, installed.split(".")[:2])) < (6, 31):
        pytest.skip(f"Gradio {installed} is too old: pip install -e '.[app]'")
    folder = tmp_path_factory.mktemp("running")
    app = App(folder, "--checkpoint", checkpoint, "--examples", pictures / "wide.jpg", "--port", 0, "--device", "cpu")
    try:
        yield app
    finally:
        code = app.close()
    assert code == 0 and "Traceback" not in app.log.read_text()
    assert not list(app.temporary.iterdir())
    events = {tuple(line.split()) for line in app.talked_to.read_text().splitlines()}
    assert ("socket.bind", "127.0.0.1", app.address.split(":")[-1]) in events
    assert {host for _, host, _ in events} <= {"127.0.0.1", "None"} and PROXY not in {port for *_, port in events}, (
        events
    )


@pytest.fixture(scope="module")
def visit(app):
    """A tab on a phone's screen; what it asked for and complained about is looked at in the end."""
    with chromium_page(viewport={"width": 390, "height": 844}) as visit:
        visit.page.set_default_timeout(180_000)  # a busy machine answers late
        yield visit
        # A stream that is still open when a page is left ends by an AbortError.
        complaints = [line for line in visit.complaints if "AbortError" not in line]
        assert [line for line in complaints if line.startswith(("error", "uncaught"))] == []
        elsewhere = [url for url in visit.requests if not url.startswith((app.address, "data:", "blob:"))]
        assert visit.requests and elsewhere == []


@pytest.fixture
def page(visit, app):
    """The page, freshly opened."""
    visit.page.goto(app.address)
    visit.page.locator("#ask").wait_for()
    return visit.page


def upload(page, path):
    page.locator("#picture input[type=file]").set_input_files(path)


def ask(page, question):
    """The question is answered: the answers, and the maps as they are drawn."""
    page.locator("#question").get_by_role("textbox").fill(question)
    page.locator("#ask").click()
    page.locator(".asked").filter(has_text=question.strip()).wait_for()
    maps = page.locator(".frame img + img").evaluate_all("all => all.map(each => each.src)")
    return page.locator(".answers li").all_inner_texts(), maps


def alert(page):
    return page.locator("#message [role=alert]").inner_text()


@pytest.mark.slow
def test_two_questions_have_answers_and_maps_of_their_own_from_one_first_look(page, pictures):
    upload(page, pictures / "new.jpg")
    page.locator("#picture img").wait_for()
    answers, maps = ask(page, "Is there a ring here?")
    assert "with the first look" in page.locator("#seconds").inner_text()
    others, other_maps = ask(page, "What color is the striped star?")
    assert "was kept" in page.locator("#seconds").inner_text()
    assert len(answers) == len(others) == 5 and answers != others
    titles = page.locator(".frame img + img").evaluate_all("all => all.map(each => each.alt)")
    changed = [title for title, one, other in zip(titles, maps, other_maps, strict=True) if one != other]
    assert titles == ["prior mask", "top-down", "bottom-up", "cross-attention"]
    assert set(changed) >= {"prior mask", "cross-attention"} and "bottom-up" not in changed
    assert "within the dashed lines" in page.locator("#maps").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
def test_enter_asks_and_strength_is_what_the_slider_says(page, pictures):
    upload(page, pictures / "square.tif")  # which no browser shows as it is
    page.wait_for_function("document.querySelector('#picture img')?.naturalWidth === 90")
    page.locator("#question").get_by_role("textbox").fill("How many stars are there?")
    page.keyboard.press("Enter")
    page.locator(".answers").wait_for()
    assert "dashed" not in page.locator("#maps").inner_text()
    overlay = page.locator(".frame img + img").first
    assert overlay.evaluate("map => getComputedStyle(map).opacity") == "0.8"
    page.locator("#strength input[type=number]").fill("0.25")
    page.wait_for_function("getComputedStyle(document.querySelector('.frame img + img')).opacity === '0.25'")


@pytest.mark.slow
def test_an_example_is_a_picture_and_answers_go_with_it(page):
    page.locator(".gallery-item").click()
    page.locator("#picture img").wait_for()
    ask(page, "Is there a ring here?")
    page.get_by_label("Remove Image").click()
    page.locator(".answers").wait_for(state="detached")
    assert not page.locator("#maps").is_visible()


@pytest.mark.slow
def test_what_cannot_be_answered_is_said(page, pictures):
    page.locator("#ask").click()
    assert alert(page) == "There is no picture to ask about yet."
    upload(page, pictures / "text.png")
    page.get_by_text("text.png: not an image").wait_for()
    assert page.locator("#picture img").count() == 0
    upload(page, pictures / "wide.jpg")
    page.locator("#message [role=alert]").wait_for(state="detached")
    page.locator("#ask").click()
    assert alert(page) == "No answer: the question is empty."
    ask(page, "Is there a ring here?")
    assert page.locator("#message [role=alert]").count() == 0


@pytest.mark.slow
def test_hostile_text_stays_text(page, pictures):
    upload(page, pictures / "wide.jpg")
    page.locator("#picture img").wait_for()
    ask(page, HOSTILE)
    assert page.locator(".asked").inner_text() == HOSTILE and page.evaluate("window.hacked") is None


@pytest.mark.slow
def test_the_browser_is_told_to_load_nothing_from_elsewhere(visit, app):
    page, complaints = visit.page.context.new_page(), []
    page.on("console", lambda line: complaints.append(line.text))
    page.goto(app.address)
    page.locator("#ask").wait_for()
    assert page.evaluate("fetch('http://127.0.0.1:9/').catch(() => 'refused')") == "refused"
    assert any("violates the following Content Security Policy" in line for line in complaints)
    page.close()


@pytest.mark.slow
def test_behind_a_proxy_the_page_has_its_style_takes_pictures_and_answers(visit, checkpoint, pictures, tmp_path):
    app = App(
        tmp_path,
        "--checkpoint",
        checkpoint,
        "--port",
        0,
        "--device",
        "cpu",
        "--host",
        "0.0.0.0",
        "--root-path",
        "/vqa/",
    )
    try:
        port = int(app.address.split(":")[-1])
        assert f"warning: whoever reaches port {port} of this machine can use the model" in app.log.read_text()
        with served_below("/vqa/", port) as address:
            page, requests, failed = visit.page.context.new_page(), [], []
            page.set_default_timeout(180_000)
            page.on("request", lambda request: requests.append(request.url))
            page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
            page.goto(address)
            upload(page, pictures / "wide.jpg")
            page.locator("#picture img").wait_for()
            answers, maps = ask(page, "Is there a ring here?")
            assert len(answers) == 5 and len(maps) == 4
            theme = "[...document.styleSheets].find(each => each.href?.includes('theme.css')).cssRules.length"
            assert page.evaluate(theme) > 0 and not failed
            assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
            page.close()
    finally:
        assert app.close() == 0
    assert "Traceback" not in app.log.read_text()


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (2, ["--host", "192.0.2.1"], "--host 192.0.2.1 is no address of this machine: "),
        (2, ["--host", "no such host"], "--host no such host is no address of this machine: "),
        (2, ["--root-path", "vqa"], "--root-path must be a path such as /vqa or an address, got 'vqa'"),
        (2, ["--root-path", '/a"><b'], "--root-path must be a path such as /vqa or an address, got "),
        (2, ["--port", "70000"], "--port must be from 0 to 65,535, got 70000"),
        (2, ["--device", "abacus"], "--device abacus cannot be used"),
        (2, ["--device", "meta"], "--device meta cannot be used"),
        (1, ["--examples", "{}/text.png"], "text.png: not an image"),
        (1, ["--examples", "{}/wide.jpg", "{}/nowhere.jpg"], "nowhere.jpg: No such file or directory"),
    ],
)
def test_a_wrong_command_costs_one_line(complaint, pictures, code, options, message):
    options = [option.format(pictures) for option in options]
    assert message in complaint(code, SCRIPT, "--checkpoint", "nowhere", "--port", "0", *options)


def test_without_gradio_one_line_says_how_to_get_it(complaint):
    old = ModuleType("gradio")
    old.__version__ = "5.49.1"
    for module, reason in ((None, "gradio"), (old, "version 5.49.1 is too old")):
        with patch.dict(os.environ), patch.dict(sys.modules, {"gradio": module}):
            line = complaint(2, SCRIPT, "--checkpoint", "nowhere", "--port", "0")
        assert "pip install -e '.[app]'" in line and reason in line


def test_a_taken_port_gives_way_to_the_next_free_one():
    here = find_host("127.0.0.1")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert port < free_port(port, here) < port + 100
        assert port < free_port(port, find_host("0.0.0.0")) < port + 100
    assert free_port(port, here) == port and free_port(0, here) > 0


def test_an_ipv6_address_has_brackets_where_it_is_part_of_a_url():
    try:
        host = find_host("::1")
    except ConfigError:
        pytest.skip("no IPv6 here")
    assert (host.name, host.in_url, host.is_loopback) == ("::1", "[::1]", True)


@pytest.mark.parametrize(
    ("name", "url", "is_loopback"),
    [("127.0.0.1", "127.0.0.1", True), ("localhost", "localhost", True), ("0.0.0.0", "0.0.0.0", False)],
)
def test_an_address_that_other_machines_reach_is_told_from_one_that_they_do_not(name, url, is_loopback):
    host = find_host(name)
    assert (host.in_url, host.is_loopback) == (url, is_loopback)


@pytest.fixture
def tabs(world, checkpoint, pictures, tmp_path):
    """The functions behind a page with an index, by name, and the page's parts by their ids."""
    gr = pytest.importorskip("gradio")
    RetrievalTask(tiny_retrieval_config(world, tmp_path / "run")).save(tmp_path)
    for number in range(3):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.radial_gradient("L").resize((60, 40 + number)).convert("RGB").save(tmp_path / f"photos/<b>{number}.png")
    words = ["--images", tmp_path / "photos", "--output", tmp_path / "idx", "--num-workers", 0]
    assert run_script("vl-absvit", "index", "--checkpoint", tmp_path, *words) == 0
    live = LiveModel(load_checkpoint(checkpoint), torch.device("cpu"))
    page = make_page(gr, live, open_index(tmp_path / "idx", torch.device("cpu")), [], "about")
    parts = {block.elem_id: block for block in page.blocks.values() if getattr(block, "elem_id", None)}
    return {function.fn.__name__: function.fn for function in page.fns.values() if function.fn}, parts


def test_the_strength_of_the_feedback_turns_the_second_look_and_nothing_before_it(tabs, pictures):
    functions, parts = tabs
    assert parts["alpha"].value == 10 and parts["alpha"].maximum == 20
    picture = {"path": str(pictures / "wide.jpg")}
    maps = [
        re.findall(r'<img src="(data:[^"]*)" alt="([^"]+)">', functions["ask"](picture, "Ring?", alpha)[2])
        for alpha in (10, 0, 10)
    ]
    assert [title for _, title in maps[0]] == ["prior mask", "top-down", "bottom-up", "cross-attention"]
    changed = [title for (one, title), (other, _) in zip(maps[0], maps[1], strict=True) if one != other]
    assert changed[0] == "top-down" and "bottom-up" not in changed and maps[2] == maps[0]


def test_a_search_shows_pictures_under_prior_masks_and_hostile_names_stay_text(tabs):
    functions, parts = tabs
    problem, found = functions["search"]("a red ring", 2)
    assert problem == "" and found.count("<figure>") == 3 and found.count("matches by") == 2
    assert found.count('alt="prior mask"') == 3 and "&lt;b&gt;0.png" in found and "<b>0.png" not in found
    assert "the text is empty" in functions["search"](" ", 0)[0] and parts["judged"].maximum == 64
