"""Ask a VQA model about a picture in the browser, see where it looks, and search the pictures of an index.

vl-absvit app --checkpoint runs/vqa/checkpoints/best --examples a.jpg b.jpg
vl-absvit app --checkpoint runs/vqa/checkpoints/best --index photos.index

Needs pip install -e '.[app]'. The page is served to this machine alone, unless --host names another of its addresses,
and asks nothing of any other; pictures that are uploaded are removed when it ends. From elsewhere it is safest reached
through ssh -L 7860:127.0.0.1:7860 MACHINE. Behind a proxy that serves it below a path, --root-path is that path.
"""

import argparse
import base64
import html
import io
import ipaddress
import os
import re
import signal
import socket
from collections.abc import Sequence
from math import floor, log10
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from vl_absvit.cli import (
    OptionParser,
    add_checkpoint_option,
    add_device_option,
    add_precision_option,
    choose_device,
    run_main,
)
from vl_absvit.errors import ConfigError, InputError

if TYPE_CHECKING:
    import gradio
    import numpy as np
    import torch
    from PIL import Image

    from vl_absvit.looking.live_model import LiveModel, Reply
    from vl_absvit.search.query import Hit, Searcher

HOST, FIRST_PORT, PORTS = "127.0.0.1", 7860, 100
INSTALL = "pip install -e '.[app]'"
OLDEST_GRADIO = (6, 31)
MAX_FILE_SIZE = "20mb"
MEANINGS = {
    "prior_mask": "what the question asks for",
    "bottom_up": "the first look, which knows no question",
    "top_down": "the second look, steered by the question",
    "cross": "where the words look",
}
"""What a map is, in a line under it."""
ONLY_THIS_SERVER = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
"""What the page may load, held by the browser: Gradio's scripts run inline and make functions of texts."""
LEGEND = (
    '<p class="note">weak <i class="scale"></i> strong, from the smallest to the largest value of each map; where it '
    "is strong, the picture keeps its own colours.</p>"
)
FOUND, MOST_JUDGED = 12, 64
"""Pictures that a search shows, and most that the whole model judges."""
SHOWN_BY_BROWSERS = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")
"""Pictures that browsers show as they are; of others they get a PNG, which has the same pixels."""
SHOW_ANSWERS = "() => { document.getElementById('answers').scrollIntoView({ block: 'nearest', behavior: 'smooth' }); }"
SET_STRENGTH = "(strength) => { document.documentElement.style.setProperty('--strength', strength); }"


class Host(NamedTuple):
    """An address of this machine."""

    name: str  # as it was given
    in_url: str  # with brackets around an IPv6 address
    family: socket.AddressFamily
    address: str
    is_loopback: bool  # whether no other machine reaches it


def main() -> None:
    arguments = parse_arguments()
    device, host = choose_device(arguments.device), find_host(arguments.host)
    port = free_port(arguments.port, host)
    for example in arguments.examples:
        check_example(example)
    # Pictures that are uploaded, and all that is made of them, are in this folder.
    with TemporaryDirectory(prefix="vl_absvit_app_") as folder:
        gr = import_gradio(folder, host)
        from vl_absvit.hub import find
        from vl_absvit.looking.live_model import LiveModel
        from vl_absvit.tasks.vqa import load_checkpoint

        searcher = None if arguments.index is None else open_index(arguments.index, device)
        found = find(arguments.checkpoint, "--checkpoint")
        checkpoint = load_checkpoint(found.path)
        size, answers = checkpoint.preprocessing.image_size, len(checkpoint.vocabulary)
        about = f"{found.name}: {size} x {size} pixels, {answers:,} answers, {arguments.precision} on {device}"
        live = LiveModel(checkpoint, device, arguments.precision)
        page = make_page(gr, live, searcher, arguments.examples, about)
        page.launch(
            server_name=host.in_url, server_port=port, root_path=arguments.root_path,
            share=False, inbrowser=False, quiet=True, prevent_thread_lock=True,
            max_file_size=MAX_FILE_SIZE, run_history=False, enable_monitoring=False, footer_links=[],
            ssr_mode=False, pwa=False, mcp_server=False, css_paths=Path(__file__).with_suffix(".css"),
            head=f'<meta http-equiv="Content-Security-Policy" content="{ONLY_THIS_SERVER}">',
            theme=gr.themes.Default(
                primary_hue="purple", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
            ),
        )  # fmt: skip
        taken = f" (port {arguments.port} is not free)" if port != arguments.port != 0 else ""
        below = f" (for a proxy that serves it at {arguments.root_path})" if arguments.root_path else ""
        print(f"{about}\nhttp://{host.in_url}:{port}{taken}{below}; Ctrl+C ends it", flush=True)
        if not host.is_loopback:
            print(
                f"warning: whoever reaches port {port} of this machine can use the model, without a password",
                flush=True,
            )
        wait_for_the_end()
        page.close(verbose=False)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "a VQA checkpoint")
    parser.add_argument("--index", type=Path, metavar="IDX", help="what vl-absvit index wrote, to search in")
    parser.add_argument("--examples", nargs="+", default=[], metavar="FILE", help="pictures to pick from")
    add_device_option(parser)
    parser.add_argument(
        "--port", type=int, default=FIRST_PORT, help=f"where the page is; 0 is any free one (default: {FIRST_PORT})"
    )
    parser.add_argument(
        "--host", default=HOST, help=f"address of this machine to serve on, such as 0.0.0.0 for all (default: {HOST})"
    )
    parser.add_argument(
        "--root-path",
        default="",
        metavar="PATH",
        help="where a proxy serves the page, such as /vqa, or the whole address",
    )
    add_precision_option(parser)
    arguments = parser.parse_args()
    arguments.root_path = arguments.root_path.rstrip("/")
    if not re.fullmatch(r"((https?:/)?(/[\w.~:@%+-]+)+)?", arguments.root_path, re.ASCII):
        parser.error(f"--root-path must be a path such as /vqa or an address, got {arguments.root_path!r:.60}")
    if not 0 <= arguments.port < 2**16:
        parser.error(f"--port must be from 0 to {2**16 - 1:,}, got {arguments.port}")
    return arguments


def open_index(folder: Path, device: "torch.device") -> "Searcher":
    """An index and the model that made it."""
    from vl_absvit.hub import find
    from vl_absvit.search.index_folder import check_checkpoint, read_index
    from vl_absvit.search.query import Searcher
    from vl_absvit.tasks.vl_checkpoint import load_parts

    index = read_index(folder)
    checkpoint = find(index.checkpoint, "--index").path
    check_checkpoint(index, checkpoint)
    return Searcher(index, load_parts(checkpoint), device)


def import_gradio(folder: str, host: Host) -> ModuleType:
    """Gradio, told to keep what it stores in ``folder`` and what it knows to itself.

    Raises:
        ConfigError: it is not installed, or too old.
    """
    quiet = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_TEMP_DIR": folder}
    # Gradio asks its own server whether it is there; a proxy would not find it.
    here = f"{HOST},localhost,{host.name}"
    unproxied = {name: f"{os.environ.get(name, '')},{here}".strip(",") for name in ("NO_PROXY", "no_proxy")}
    os.environ.update(quiet | unproxied)  # read when it is imported
    try:
        import gradio

        if tuple(map(int, gradio.__version__.split(".")[:2])) < OLDEST_GRADIO:
            raise ImportError(f"version {gradio.__version__} is too old")
    except ImportError as error:
        raise ConfigError(f"the page needs Gradio ({error}): {INSTALL}") from error
    return gradio


def check_example(path: str) -> None:
    """Raise ``InputError`` where no picture is there."""
    from vl_absvit.data.rgb import open_rgb

    try:
        open_rgb(Path(path))
    except InputError as error:
        raise InputError(f"--examples {error}") from error


def find_host(name: str) -> Host:
    """The address that is meant.

    Raises:
        ConfigError: it is none of this machine's.
    """
    try:
        (family, *_, (address, *_)), *_ = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        socket.create_server((address, 0), family=family).close()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"command line: --host {name} is no address of this machine: {error}") from error
    in_url = f"[{name}]" if ":" in name else name
    return Host(name, in_url, family, str(address), ipaddress.ip_address(address).is_loopback)


def free_port(wanted: int, host: Host) -> int:
    """The wanted port, or the next that is free; for 0 any."""
    last = min(wanted + PORTS, 2**16) if wanted else 1
    for port in range(wanted, last):
        try:
            socket.create_server((HOST, port)).close()  # where Gradio asks, whatever the host
            with socket.create_server((host.address, port), family=host.family) as server:
                return server.getsockname()[1]
        except OSError:
            continue
    raise ConfigError(f"command line: --port: none from {wanted} to {last - 1} can be used")


def wait_for_the_end() -> None:
    """Return when the process is interrupted or told to end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        Event().wait()
    except KeyboardInterrupt:
        return


def make_page(
    gr: ModuleType, live: "LiveModel", searcher: "Searcher | None", examples: Sequence[str], about: str
) -> "gradio.Blocks":
    """The page: a tab to ask, and one to search if there is an index."""
    with gr.Blocks(title="Ask about a picture", analytics_enabled=False) as page:
        gr.HTML(f"<h1>Ask about a picture</h1><p>{html.escape(about)}</p>", elem_id="head")
        if searcher is None:
            make_ask_tab(gr, live, examples)
        else:
            with gr.Tabs():
                with gr.Tab("Ask"):
                    make_ask_tab(gr, live, examples)
                with gr.Tab("Search"):
                    make_search_tab(gr, searcher)
    return page


def make_ask_tab(gr: ModuleType, live: "LiveModel", examples: Sequence[str]) -> None:
    """What is asked and answered, and what happens when a picture or a question comes.

    Pictures come as Gradio received them: what a file means is decided by ``decode_rgb`` alone.
    """
    from vl_absvit.data.rgb import decode_rgb

    def open_picture(file: dict[str, Any] | None) -> tuple:
        """Answers about another picture go; a file that is no picture goes with a message."""
        no_answers = "", gr.Column(visible=False)
        if file is None:
            return gr.skip(), gr.skip(), *no_answers
        path = Path(file["path"])
        try:
            picture = decode_rgb(path.read_bytes())
        except InputError as error:
            return None, message(f"{file.get('orig_name') or 'The file'}: {error}"), *no_answers
        return gr.skip() if path.suffix.lower() in SHOWN_BY_BROWSERS else picture, "", *no_answers

    def ask(file: dict[str, Any] | None, question: str, alpha: float | None = None) -> tuple:
        if file is None:
            return message("There is no picture to ask about yet."), gr.skip(), gr.skip(), gr.skip()
        try:
            reply = live.ask(Path(file["path"]).read_bytes(), question, alpha)
        except InputError as error:
            return message(f"No answer: {error}."), gr.skip(), gr.skip(), gr.skip()
        return "", show_answers(question, reply), show_maps(reply), gr.Column(visible=True)

    with gr.Row():
        with gr.Column(min_width=320):
            picture = gr.Image(
                label="Picture", type="filepath", format="png", sources=["upload", "clipboard"], buttons=[],
                elem_id="picture",
            )  # fmt: skip
            if examples:
                gr.Examples([[example] for example in examples], picture, examples_per_page=len(examples))
        with gr.Column(min_width=320):
            question = gr.Textbox(label="Question", placeholder="What do you want to know?", elem_id="question")
            button = gr.Button("Ask", variant="primary", elem_id="ask")
            problem = gr.HTML(elem_id="message")
            answers = gr.HTML(elem_id="answers")
    with gr.Column(visible=False, elem_id="result") as result:
        with gr.Row():
            with gr.Column(min_width=320):
                gr.HTML(LEGEND)
            with gr.Column(min_width=320):
                make_strength(gr, "strength")
                trained = live.alpha
                alpha = None if trained is None else gr.Slider(
                    0, 2 * trained, trained, step=trained / 20, label=f"alpha, of the feedback (trained: {trained:g})",
                    elem_id="alpha", buttons=[],
                )  # fmt: skip
        maps = gr.HTML(elem_id="maps")
    # One at a time and in order: a change of the picture, which removes answers, never comes after the next answer.
    event = {"preprocess": False, "concurrency_id": "model", "api_visibility": "private"}
    picture.change(open_picture, picture, [picture, problem, answers, result], show_progress="hidden", **event)
    given, shown = [picture, question, *([] if alpha is None else [alpha])], [problem, answers, maps, result]
    asked = gr.on([button.click, question.submit], ask, given, shown, show_progress_on=answers, **event)
    asked.then(None, js=SHOW_ANSWERS)
    if alpha is not None:
        alpha.release(ask, given, shown, show_progress_on=answers, **event)


def make_search_tab(gr: ModuleType, searcher: "Searcher") -> None:
    """A sentence, and the pictures that are found for it."""

    def search(text: str, judged: float) -> tuple:
        try:
            hits = searcher.search(text, FOUND, int(judged), open_pictures=True)
        except InputError as error:
            return message(f"Nothing found: {error}."), gr.skip()
        return "", show_hits(hits)

    with gr.Row():
        with gr.Column(min_width=320):
            text = gr.Textbox(label="Text", placeholder="What do you want to find?", elem_id="text")
            button = gr.Button("Search", variant="primary", elem_id="search")
        with gr.Column(min_width=320):
            make_strength(gr, "mask_strength")
            judged = gr.Slider(
                0, MOST_JUDGED if searcher.judges_pairs else 0, 0, step=4, label="Judged by the whole model",
                elem_id="judged", buttons=[], visible=searcher.judges_pairs,
            )  # fmt: skip
    problem = gr.HTML(elem_id="search_message")
    hits = gr.HTML(elem_id="hits")
    gr.on(
        [button.click, text.submit], search, [text, judged], [problem, hits], show_progress_on=hits, preprocess=False,
        concurrency_id="model", api_visibility="private",
    )  # fmt: skip


def make_strength(gr: ModuleType, name: str) -> None:
    """A slider of how strongly maps lie over pictures; the browser follows it by itself."""
    strength = gr.Slider(0, 1, 0.8, step=0.01, label="Strength", elem_id=name, buttons=[])
    strength.change(None, strength, js=SET_STRENGTH)


def message(text: str) -> str:
    """Something that went wrong."""
    return f'<p role="alert">{html.escape(text)}</p>'


def show_answers(question: str, reply: "Reply") -> str:
    """The answers with their scores, and what they cost."""
    rows = "".join(
        f"<li><span>{html.escape(answer.prediction)}</span><b>{answer.confidence:.3f}</b>"
        f'<i style="--score: {answer.confidence}"></i></li>'
        for answer in reply.answers
    )
    cut = "The model reads the beginning of the question only: it is too long. " if reply.is_cut else ""
    look = "the first look at the picture was kept" if reply.looked_before else "with the first look at the picture"
    return (
        f'<p class="asked">{html.escape(question.strip())}</p><ol class="answers">{rows}</ol>'
        f'<p class="note">{cut}<span id="seconds">{reply.seconds:.2f} s, {look}.</span> A score is the sigmoid of an '
        "answer's logit, as trained with binary cross-entropy: each is from 0 to 1 on its own, and they need not add "
        "up to 1.</p>"
    )


def show_maps(reply: "Reply") -> str:
    """The maps over the picture. The browser mixes the two: an overlay is linear in its strength."""
    from vl_absvit.looking.report_page import TITLES

    width, height = reply.picture.size
    x0, y0, x1, y1 = reply.box
    gaps = y0 / height, 1 - x1 / width, 1 - y1 / height, x0 / width  # as CSS goes around
    seen = f'<i style="inset: {" ".join(f"{100 * gap:.2f}%" for gap in gaps)}"></i>' if max(gaps) > 0.01 else ""
    picture, tiles = data_uri(reply.picture), []
    for name, overlay in reply.overlays(strength=1).items():
        tiles.append(
            f'<figure><div class="frame" style="--aspect: {width / height}"><img src="{picture}" alt="">'
            f'<img src="{data_uri(overlay)}" alt="{TITLES[name]}">{seen}</div><figcaption><b>{TITLES[name]}</b> '
            f"<span>{span(reply.maps[name])}</span><p>{MEANINGS[name]}</p></figcaption></figure>"
        )
    note = '<p class="note">The model sees what is within the dashed lines.</p>' if seen else ""
    return f'<div class="tiles">{"".join(tiles)}</div>{note}'


def show_hits(hits: "Sequence[Hit]") -> str:
    """The pictures that were found, under the prior masks of the text."""
    from vl_absvit.looking.overlay import overlay

    tiles = []
    for rank, hit in enumerate(hits, start=1):
        judged, frame = hit.judged, ""
        if judged is not None:
            frame = f'<img src="{data_uri(judged.picture)}" alt="">'
            if judged.prior_mask is not None:
                mask = overlay(judged.picture, judged.prior_mask, judged.box, strength=1)
                frame += f'<img src="{data_uri(mask)}" alt="prior mask">'
            width, height = judged.picture.size
            frame = f'<div class="frame" style="--aspect: {width / height}">{frame}</div>'
        match = "" if hit.prediction is None else f", matches by {100 * hit.prediction.match:.0f} %"
        error = "" if hit.error is None else f"<p>{html.escape(hit.error)}</p>"
        tiles.append(
            f"<figure>{frame}<figcaption><b>{rank}</b> <span>{html.escape(hit.image.name)}</span>"
            f"<p>similarity {hit.similarity:.3f}{match}</p>{error}</figcaption></figure>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def span(grid: "np.ndarray") -> str:
    """A map's smallest and largest value, with as many digits as tell them apart."""
    low, high = float(grid.min()), float(grid.max())
    if low == high:
        return f"{low:.3g} everywhere"
    digits = max(0, 1 - floor(log10(high - low)))
    return f"{low:.{digits}f} to {high:.{digits}f}"


def data_uri(picture: "Image.Image") -> str:
    """A picture as part of the page."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


if __name__ == "__main__":
    run_main(main)
