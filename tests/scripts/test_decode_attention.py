"""``scripts/decode_attention.py``: pages, arrays and protocol, and one line for whatever is wrong."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.lively_vqa import lively_task
from tests.run_script import run_script
from tests.tiny_vqa import tiny_vision
from vl_absvit.data.records import read_questions
from vl_absvit.looking.decoded_pictures import load_decodable, to_pixels
from vl_absvit.looking.linear_decoder import shared_scale

SCRIPT = "scripts/decode_attention.py"
TEXTS = ["what is the red star?", "where is the blue ring?"]


@pytest.fixture(scope="module")
def checkpoints(world, tmp_path_factory):
    """Folders of untrained models by variant, whose priors depend on the text."""
    base = tmp_path_factory.mktemp("untrained")
    for top_down in ("absvit", "feedback", "none"):
        (base / top_down).mkdir()
        lively_task(world, base, vision=tiny_vision(top_down=top_down)).save(base / top_down)
    return base


@pytest.fixture
def command(world, checkpoints, tmp_path):
    """The words of a command about one picture, with some options changed; None leaves one out."""

    def words(**options) -> list[object]:
        usual = {"checkpoint": [checkpoints / "absvit"], "data": [world / "prepared"], "split": ["val"]}
        usual |= {"image": [world / "demo/pairs/0000.png"], "text": TEXTS, "output": [tmp_path / "out"]}
        return [
            word
            for key, values in (usual | options).items()
            for value in values or []
            for word in (f"--{key.replace('_', '-')}", value)
        ]

    return words


@pytest.fixture
def refuse(command, complaint, tmp_path):
    """The complaint of a command; it writes nothing."""

    def run(code, **options):
        line = complaint(code, SCRIPT, *command(**options))
        assert not list(tmp_path.glob("out/*"))
        return line

    return run


def read_protocol(folder):
    return json.loads((folder / "decoding.json").read_text())


def test_a_picture_and_two_texts_give_a_page_the_arrays_and_the_protocol(command, checkpoints, world, tmp_path, capfd):
    assert run_script(SCRIPT, *command(fit_images=[7], ridge=[0.01])) == 0
    protocol = read_protocol(tmp_path / "out")
    assert {key: protocol[key] for key in ("fit_split", "fit_images", "fit_patches", "ridge", "gain", "top_down")} == {
        "fit_split": "train", "fit_images": 7, "fit_patches": 28, "ridge": 0.01, "gain": 10, "top_down": "AbSViT"
    }  # fmt: skip
    assert protocol["checkpoint"] == str(checkpoints / "absvit")
    held_out = protocol["held_out"]
    assert (held_out["split"], held_out["images"], held_out["patches"]) == ("val", 3, 12)
    out = capfd.readouterr().out
    assert f"on 3 images of val: R^2 {held_out['r2']:.3f}, PSNR {held_out['psnr']:.1f} dB" in out
    [entry] = protocol["pictures"]
    assert entry["name"] == "0000" and entry["texts"] == TEXTS
    assert entry["image"] == str(world / "demo/pairs/0000.png")
    with np.load(tmp_path / "out/0000.npz", allow_pickle=False) as arrays:
        assert {name: (arrays[name].shape, arrays[name].dtype) for name in arrays} == {
            "image": ((32, 32, 3), np.float32),
            "bottom_up": ((32, 32, 3), np.float32),
            "top_down": ((2, 32, 32, 3), np.float32),
            "sum": ((2, 32, 32, 3), np.float32),
        }
        largest = np.abs(arrays["top_down"]).max(axis=(1, 2, 3))
        np.testing.assert_allclose(entry["largest"], largest, rtol=1e-5)
        assert entry["scale"] == pytest.approx(shared_scale(arrays["top_down"]), rel=1e-5)
        np.testing.assert_allclose(arrays["sum"], arrays["bottom_up"] + arrays["top_down"], atol=1e-5)
        with Image.open(world / "demo/pairs/0000.png") as picture:
            preprocessing = load_decodable(checkpoints / "absvit").preprocessing
            seen = to_pixels(preprocessing.transform()(picture.convert("RGB"))[None], preprocessing)[0]
        np.testing.assert_allclose(arrays["image"], seen.permute(1, 2, 0), atol=1e-6)
    with Image.open(tmp_path / "out/0000.png") as page:
        assert page.width > 6 * 192 and page.height > 192
    assert set(protocol["definitions"]) >= {"r2", "psnr", "ridge", "top_down", "sum", "scale", "largest"}


def test_in_bf16_it_is_said_and_pictures_are_nearly_the_same(command, tmp_path):
    pixels = {}
    for precision in ("fp32", "bf16"):
        assert run_script(SCRIPT, *command(precision=[precision], output=[tmp_path / precision])) == 0
        assert read_protocol(tmp_path / precision)["precision"] == precision
        with np.load(tmp_path / precision / "0000.npz", allow_pickle=False) as arrays:
            pixels[precision] = arrays["bottom_up"]
    assert 0 < np.abs(pixels["bf16"] - pixels["fp32"]).max() < 0.05


def test_questions_of_a_split_are_asked_of_their_own_pictures(command, checkpoints, world, tmp_path):
    assert run_script(SCRIPT, *command(image=None, text=None, questions=[8])) == 0
    questions = read_questions(world / "prepared", ["val"])[:8]
    expected = {}
    for image_id, text in zip(questions["image_id"], questions["question"], strict=True):
        expected.setdefault(image_id, []).append(text)
    entries = read_protocol(tmp_path / "out")["pictures"]
    assert {entry["image"]: entry["texts"] for entry in entries} == expected and len(entries) == 2
    files = {f"{image_id}.{suffix}" for image_id in expected for suffix in ("png", "npz")} | {"decoding.json"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == files


def test_an_image_by_its_id_is_the_same_as_in_a_run_over_questions(command, world, tmp_path):
    first = read_questions(world / "prepared", ["val"])[0]
    about_one = dict(image=[first["image_id"]], text=[first["question"]], output=[tmp_path / "one"])
    assert run_script(SCRIPT, *command(**about_one, batch_size=[2])) == 0
    assert run_script(SCRIPT, *command(image=None, text=None, questions=[3])) == 0
    name = f"{first['image_id']}.npz"
    with np.load(tmp_path / "one" / name) as one, np.load(tmp_path / "out" / name) as many:
        for part in ("top_down", "sum"):
            np.testing.assert_allclose(one[part][0], many[part][0], atol=1e-5)
        assert many["top_down"].any()


def test_feedback_knows_no_text_and_gives_one_top_down_picture(command, checkpoints, refuse, tmp_path):
    feedback = [checkpoints / "feedback"]
    assert run_script(SCRIPT, *command(checkpoint=feedback, text=None)) == 0
    with np.load(tmp_path / "out/0000.npz") as arrays:
        assert arrays["top_down"].shape == (1, 32, 32, 3) and arrays["top_down"].any()
    shutil.rmtree(tmp_path / "out")
    assert run_script(SCRIPT, *command(checkpoint=feedback, image=None, text=None, questions=[3])) == 0
    [entry] = read_protocol(tmp_path / "out")["pictures"]
    assert entry["texts"] == []
    shutil.rmtree(tmp_path / "out")
    line = "command line: the checkpoint's encoder, Feedback, takes no --text: none has a say"
    assert refuse(2, checkpoint=feedback) == line


def test_a_model_that_feeds_nothing_back_is_refused(refuse, checkpoints):
    assert refuse(1, checkpoint=[checkpoints / "none"]) == (
        f"checkpoint {checkpoints / 'none'}: expected one of Feedback, AbSViT, AbSViT-QKV, whose decoders reconstruct "
        "the first block's input, got ViT"
    )


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(text=None), "the checkpoint's encoder, AbSViT, takes at least one --text, which steers it"),
        (dict(text=["a", " "]), "--text: a text is empty"),
        (dict(text=["a", "a"]), "--text: expected at most 32 different ones, got 2"),
        (dict(text=[str(n) for n in range(33)]), "--text: expected at most 32 different ones, got 33"),
        (dict(text=["a \udcff"]), "--text: expected texts that UTF-8 can hold"),
        (dict(image=None, text=None), "give --image with its --text, or --questions"),
        (dict(questions=[3]), "give --image with its --text, or --questions"),
        (dict(image=None, text=None, questions=[0]), "--questions must be at least 1"),
        (dict(image=None, text=None, questions=[1000]), "--questions 1,000, but val has 18 questions with an image"),
        (dict(ridge=[0]), "--ridge must be a number above 0"),
        (dict(ridge=["nan"]), "--ridge must be a number above 0"),
        (dict(fit_split=["val"]), "--fit-split and --split are both 'val'"),
        (dict(split=None), "the following arguments are required: --split"),
    ],
)
def test_a_wrong_command_is_one_line(refuse, options, message):
    assert message in refuse(2, **options)


def test_too_few_images_for_the_unknowns_are_refused(refuse, world):
    assert refuse(1, fit_images=[4]) == (
        f"{world / 'prepared'}: 4 images of train: 16 patches cannot tell 17 unknowns of each pixel; take more pictures"
    )


def test_splits_that_share_images_are_refused(refuse, world, tmp_path):
    shared = shutil.copytree(world / "prepared", tmp_path / "prepared")
    shutil.copy(shared / "train.parquet", shared / "val.parquet")
    line = refuse(1, data=[shared])
    assert line.startswith(f"{shared}: 10 images are both in train and in val, e.g. ")


def test_unknown_splits_images_and_data_are_one_line(refuse, world, tmp_path):
    data = world / "prepared"
    known = "it has train, minival, val, test, test-dev"
    assert refuse(1, split=["vall"]) == f"{data}: there is no split 'vall'; {known}"
    assert refuse(1, fit_split=["trian"]) == f"{data}: there is no split 'trian'; {known}"
    assert (
        refuse(1, image=["12345678"]) == f"{data}: there is no image 12345678 in val, nor is there a file of that name"
    )
    of_train = read_questions(data, ["train"])[0]["image_id"]
    assert f"there is no image {of_train} in val" in refuse(1, image=[of_train])
    assert refuse(1, image=["no.png"]) == "no.png: No such file or directory"
    assert refuse(1, image=[tmp_path]) == f"{tmp_path}: Is a directory"
    (tmp_path / "a.png").write_text("not a picture")
    assert refuse(1, image=[tmp_path / "a.png"]).startswith(f"{tmp_path / 'a.png'}: not an image")
    assert "no prepared data here" in refuse(1, data=[tmp_path])
    assert "the checkpoint reads at most 24 tokens" in refuse(1, text=["why " * 50])


def test_a_folder_with_something_in_it_is_left_as_it_is(command, complaint, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    line = f"{folder}: already there; expected a new or empty folder to write into"
    assert complaint(1, SCRIPT, *command()) == line
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]
    file = folder / "notes.txt"
    assert complaint(1, SCRIPT, *command(output=[file])) == line.replace(str(folder), str(file))
    assert file.read_text() == "mine"
