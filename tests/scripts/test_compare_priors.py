"""``scripts/compare_priors.py``: sheets and tables, what no prior moves, and one line for whatever is wrong."""

import json
import shutil

import pytest
import torch
from PIL import Image

from tests.run_script import run_script
from tests.tiny_vqa import tiny_pretrain_config, tiny_vision, tiny_vqa_config
from vl_absvit.demo.world import write_pairs
from vl_absvit.looking.prior_comparison import class_priors, load_steerable, sweep, text_priors
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.vqa import VQATask

SCRIPT = "scripts/compare_priors.py"
PRIORS = {"vqa": ["a red star", "a blue ring"], "classifier": ["red_solid_star", "blue_dotted_ring"]}


@pytest.fixture(scope="module")
def checkpoints(world, tmp_path_factory):
    """Folders of untrained models by kind."""
    base, tasks = tmp_path_factory.mktemp("untrained"), {}
    tasks["vqa"] = VQATask(tiny_vqa_config(world, base))
    tasks["classifier"] = ClassificationTask(tiny_pretrain_config(world, base))
    torch.nn.init.normal_(tasks["classifier"].model.vision.head.weight)  # which starts as 0
    tasks["plain"] = ClassificationTask(
        tiny_pretrain_config(world, base, vision=tiny_vision(gain=1.0, top_down="none"))
    )
    for kind, task in tasks.items():
        (base / kind).mkdir()
        task.save(base / kind)
    return base


@pytest.fixture
def pairs(world, tmp_path):
    """A copy of the tiny world's pairs, to be damaged."""
    return shutil.copytree(world / "demo/pairs", tmp_path / "pairs")


@pytest.fixture
def refuse(checkpoints, pairs, tmp_path, complaint):
    """The complaint of a comparison of pairs, or of an image, with some options changed; it writes nothing."""

    def run(code, kind="vqa", about_image=False, **options):
        usual = {"checkpoint": [checkpoints / kind], "output": [tmp_path / "out"], "block": [-1]}
        usual |= {"image": [pairs / "0000.png"], "priors": PRIORS[kind]} if about_image else {"pairs": [pairs]}
        words = [word for key, values in (usual | options).items() for word in (f"--{key.replace('_', '-')}", *values)]
        line = complaint(code, SCRIPT, *words)
        assert not list(tmp_path.glob("out/*"))
        return line

    return run


@pytest.mark.parametrize(("kind", "precision"), [("vqa", "fp32"), ("classifier", "bf16")])
def test_one_picture_gives_a_sheet_and_the_numbers_behind_it(checkpoints, pairs, tmp_path, kind, precision):
    arguments = ["--checkpoint", checkpoints / kind, "--image", pairs / "0000.png", "--priors", *PRIORS[kind]]
    options = ["--output", tmp_path, "--alphas", 0, 2.5, "--block", -1, "--precision", precision]
    assert run_script(SCRIPT, *arguments, *options) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 168 and sheet.height > 3 * 168
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["precision"] == precision
    assert scores["priors_are"] == ("texts" if kind == "vqa" else "class prototypes")
    assert scores["trained_alpha"] == (10 if kind == "vqa" else 1)
    assert scores["image_size"] == [96, 96] and scores["box"] == [0, 0, 96, 96]
    assert [each["prior"] for each in scores["priors"]] == PRIORS[kind]
    looks = [scores["bottom_up"], *(look for each in scores["priors"] for look in each["top_down"])]
    for look in looks:
        keys = {"cosine", "share"} | ({"probability"} if kind == "classifier" else set())
        assert set(look) - {"alpha"} == keys | {"strongest"}
        assert all(list(look[key]) == PRIORS[kind] for key in keys)
        assert sum(look["share"].values()) == pytest.approx(1)
        assert look["strongest"]["x"] in (24, 72) and look["strongest"]["row"] in (0, 1)
        assert set(scores["definitions"]) >= keys
    first, second = ([look for look in each["top_down"]] for each in scores["priors"])
    assert [look["alpha"] for look in first] == [0, 2.5]
    assert first[0]["cosine"] == pytest.approx(second[0]["cosine"], abs=1e-5)
    assert first[0]["strongest"]["value"] == pytest.approx(second[0]["strongest"]["value"], rel=1e-5)


@pytest.mark.parametrize("kind", ["vqa", "classifier"])
def test_pairs_give_a_table_in_which_strength_0_prefers_nothing(checkpoints, pairs, tmp_path, capfd, kind):
    arguments = ["--checkpoint", checkpoints / kind, "--pairs", pairs, "--output", tmp_path, "--block", -1]
    assert run_script(SCRIPT, *arguments) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["pictures"] == len(list(pairs.glob("*.png"))) > 0
    assert scores.get("template") == ("a {}" if kind == "vqa" else None)
    assert [each["alpha"] for each in scores["top_down"]] == [0, 1, 3, 10, 30]
    for neutral in (scores["bottom_up"], scores["top_down"][0]):
        assert neutral["asked_half"] == 50 and neutral["both_halves"] == 0
        assert neutral["share"] == pytest.approx(50, abs=1e-3)
    assert scores["prior_mask"]["share"] is None
    assert any(each["share"] != pytest.approx(50, abs=1e-3) for each in scores["top_down"][1:])
    out = capfd.readouterr().out
    assert "asked half" in out and "alpha 30" in out and "bottom-up" in out


@pytest.mark.parametrize("kind", ["vqa", "classifier"])
def test_the_table_is_that_of_every_pair_asked_for_its_left_and_for_its_right_thing(checkpoints, tmp_path, kind):
    write_pairs(tmp_path / "pairs", seed=5, count=15)
    arguments = ["--checkpoint", checkpoints / kind, "--pairs", tmp_path / "pairs", "--output", tmp_path]
    assert run_script(SCRIPT, *arguments, "--block", -1, "--alphas", 30) == 0
    found = json.loads((tmp_path / "scores.json").read_text())
    checkpoint, shares, sides = load_steerable(checkpoints / kind), [], []
    for pair in json.loads((tmp_path / "pairs/pairs.json").read_text()):
        things = pair["left"], pair["right"]
        texts = [f"a {thing.replace('_', ' ')}" for thing in things]
        priors = text_priors(checkpoint, texts) if kind == "vqa" else class_priors(checkpoint, things)
        with Image.open(tmp_path / "pairs" / pair["file"]) as picture:
            images = priors.transform(picture)[None]
        result = sweep(priors, images, torch.tensor([0, 1]), torch.tensor([0, 0]), [30.0], block=-1)
        shares += result.second[30.0].logits.softmax(dim=1).diagonal().tolist()
        for mask in result.prior_mask:
            columns = {int(column) for column in (mask == mask.max()).nonzero()[:, 1]}  # of 2 x 2 cells
            sides.append(columns.pop() if len(columns) == 1 else None)
    assert found["top_down"][0]["share"] == pytest.approx(100 * sum(shares) / len(shares), abs=1e-3)
    right, wrong = ([sides[k] == asked for k, asked in enumerate(each * 15)] for each in ([0, 1], [1, 0]))
    assert found["prior_mask"]["asked_half"] == pytest.approx(100 * sum(right) / 30)
    assert kind == "vqa" or sum(right) != sum(wrong), "else left and right could be swapped unnoticed"


def test_the_trained_strength_is_among_those_that_are_tried(world, pairs, tmp_path):
    (tmp_path / "vqa").mkdir()
    VQATask(tiny_vqa_config(world, tmp_path, vision=tiny_vision(gain=2.5))).save(tmp_path / "vqa")
    arguments = ["--checkpoint", tmp_path / "vqa", "--pairs", pairs, "--output", tmp_path, "--block", -1]
    assert run_script(SCRIPT, *arguments) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["trained_alpha"] == 2.5 and [each["alpha"] for each in scores["top_down"]] == [0, 1, 2.5, 3, 10, 30]


def test_the_batch_size_changes_nothing_and_the_template_something(checkpoints, pairs, tmp_path):
    results = {}
    for name, more in {
        "usual": [],
        "small": ["--batch-size", 3],
        "question": ["--template", "where is the {}?"],
    }.items():
        arguments = ["--checkpoint", checkpoints / "vqa", "--pairs", pairs, "--output", tmp_path / name, "--block", -1]
        assert run_script(SCRIPT, *arguments, "--alphas", 1000, *more) == 0  # untrained masks hardly open
        results[name] = json.loads((tmp_path / name / "scores.json").read_text())
    shares = {name: result["top_down"][0]["share"] for name, result in results.items()}
    assert shares["small"] == pytest.approx(shares["usual"], abs=1e-3)
    assert shares["question"] != pytest.approx(shares["usual"], abs=1e-3)
    assert results["question"]["template"] == "where is the {}?"


def test_a_model_that_looks_once_is_refused(refuse, checkpoints):
    line = (
        f"checkpoint {checkpoints / 'plain'}: expected AbSViT or AbSViT-QKV, whose second look a prior steers, got ViT"
    )
    assert refuse(1, kind="plain") == line


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(priors=["a red star", " "]), "--priors: a prior is empty"),
        (dict(priors=["a", "a"]), "--priors: expected at most 32 different ones, got 2"),
        (dict(priors=[str(n) for n in range(33)]), "--priors: expected at most 32 different ones, got 33"),
        (dict(alphas=[0, -1]), "--alphas must be numbers of at least 0"),
        (dict(alphas=["nan"]), "--alphas must be numbers of at least 0"),
        (dict(alphas=[1, 1.0]), "--alphas: expected at most 15 different ones, got 2"),
        (dict(alphas=["much"]), "invalid float value: 'much'"),
        (dict(pairs=["."]), "give --image and --priors, or --pairs"),
        (dict(template=["a {}"]), "--template goes with --pairs"),
        (dict(block=[2]), "there is no block 2: the vision encoder has 2, from -2 to 1"),
    ],
)
def test_a_wrong_command_is_one_line(refuse, options, message):
    assert message in refuse(2, about_image=True, **options)


def test_a_wrong_command_about_pairs_is_one_line(refuse):
    assert "--template goes with --pairs and must contain {}" in refuse(2, template=["a thing"])
    assert "--template makes texts of classes" in refuse(2, kind="classifier", template=["a {}"])
    assert "--batch-size must be at least 1" in refuse(2, batch_size=[0])


def test_a_missing_or_broken_picture_is_one_line(refuse, pairs, tmp_path):
    assert (
        refuse(1, about_image=True, image=[tmp_path / "no.png"]) == f"{tmp_path / 'no.png'}: No such file or directory"
    )
    assert refuse(1, about_image=True, image=[pairs]) == f"{pairs}: Is a directory"
    (pairs / "0001.png").write_text("not a picture")
    assert refuse(1).startswith(f"{pairs / '0001.png'}: not an image")
    (pairs / "0001.png").unlink()
    assert refuse(1) == f"{pairs / '0001.png'}: No such file or directory"


def test_a_class_that_the_classifier_does_not_know_is_one_line(refuse, pairs):
    line = "prior 'unicorn': expected one of the checkpoint's 127 classes, blue_dotted_circle, blue_dotted_cross, "
    assert line in refuse(1, kind="classifier", about_image=True, priors=["unicorn"])
    rewrite(pairs, lambda entries: entries[1].update(left="unicorn"))
    assert refuse(1, kind="classifier").startswith(f"{pairs / 'pairs.json'}: {line}")


def rewrite(pairs, change):
    """Change the entries of ``pairs.json`` in place."""
    entries = json.loads((pairs / "pairs.json").read_text())
    change(entries)
    (pairs / "pairs.json").write_text(json.dumps(entries))


LISTED = "pair 1: expected {"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda entries: entries.clear(), "pairs.json: expected pairs such as"),
        (lambda entries: entries.insert(0, 7), f'{LISTED}"file": name'),
        (lambda entries: entries[0].pop("file"), LISTED),
        (lambda entries: entries[0].update(file=3), LISTED),
        (lambda entries: entries[0].update(file="a\0b"), LISTED),
        (lambda entries: entries[0].update(left=" "), LISTED),
        (lambda entries: entries[0]["boxes"][0].pop(), LISTED),
        (lambda entries: entries[0].update(boxes=["abcd", "abcd"]), LISTED),
        (
            lambda entries: entries[0].update(right=entries[0]["left"]),
            "pair 1: expected two things of different classes",
        ),
        (lambda entries: entries[0]["boxes"].reverse(), "0000.png: the left thing, box [6"),
        (lambda entries: entries[0]["boxes"][1].__setitem__(2, 97), "0000.png: the right thing, box "),
        (lambda entries: entries[0]["boxes"][1].__setitem__(3, 10**400), "is not within the right half of what the"),
        (lambda entries: entries[0].update(boxes=[[9, 9, 9, 9], [60, 9, 70, 20]]), "the left thing, box [9, 9, 9, 9]"),
    ],
)
def test_a_list_of_pairs_of_another_form_is_one_line(refuse, pairs, change, message):
    rewrite(pairs, change)
    assert message in refuse(1)


def test_a_file_that_lists_no_pairs_is_one_line(refuse, pairs):
    (pairs / "pairs.json").write_text("{}")
    assert refuse(1) == f"{pairs / 'pairs.json'}: expected a list at the top level, got an object"
    (pairs / "pairs.json").unlink()
    assert refuse(1) == f"{pairs / 'pairs.json'}: no such file"


def test_things_that_the_centre_crop_cuts_off_are_refused(refuse, pairs):
    Image.new("RGB", (192, 96)).save(pairs / "0000.png")
    rewrite(pairs, lambda entries: entries[0].update(boxes=[[20, 30, 60, 70], [100, 30, 140, 70]]))
    assert "the left thing, box [20, 30, 60, 70], is not within the left half of what the model sees, [48.0" in refuse(
        1
    )
