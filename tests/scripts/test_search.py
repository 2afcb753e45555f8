"""Pictures indexed and found from the command line; ``tests/search`` has the parts."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.run_script import run_script
from tests.tiny_vqa import tiny_retrieval_config, tiny_vqa_config
from vl_absvit.data.rgb import open_rgb
from vl_absvit.models.trunks.vit import AbSViT
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vl_checkpoint import load_parts, priors_of
from vl_absvit.tasks.vqa import VQATask

TEXT = "a red ring"


def save_model(folder: Path, world: Path, pool: str = "lse", seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    task = RetrievalTask(tiny_retrieval_config(world, folder / "run"))
    torch.manual_seed(seed)
    for weight in task.model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    task.model.architecture["pool"] = task.model.pool = pool
    task.save(folder)
    return folder


@pytest.fixture(scope="module", params=["lse", "mean"])
def checkpoint(request, world, tmp_path_factory):
    return save_model(tmp_path_factory.mktemp(request.param), world, request.param)


@pytest.fixture(scope="module")
def lse(world, tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("lse"), world)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Seven pictures in two folders, a bad one, and other files; the current folder has them."""
    monkeypatch.chdir(tmp_path)
    for number in range(7):
        folder = tmp_path / "photos" / ("a" if number % 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (40 + number, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    (tmp_path / "photos/bad.JPG").write_text("hello")
    (tmp_path / "photos/notes.txt").write_text("hello")
    (tmp_path / "photos/.hidden.png").write_text("hello")
    return tmp_path / "photos"


@pytest.fixture
def looks(monkeypatch):
    """Numbers of pictures that were looked at."""
    counted, look_once = [], AbSViT.look_once
    monkeypatch.setattr(
        AbSViT, "look_once", lambda self, images: counted.append(len(images)) or look_once(self, images)
    )
    return counted


def index(checkpoint, *words) -> int:
    usual = ["--images", "photos", "--output", "idx", "--num-workers", 0, "--batch-size", 3]
    return run_script("vl-absvit", "index", "--checkpoint", checkpoint, *usual, *words)


@pytest.fixture
def search(capsys):
    def run(*words):
        capsys.readouterr()
        code = run_script("vl-absvit", "search", "--index", "idx", "--text", TEXT, "--device", "cpu", *words)
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err.splitlines()

    return run


@torch.no_grad()
def exact_scores(folder: Path, photos: Path) -> dict[str, float]:
    """The dual encoder's scores, picture by picture."""
    parts = load_parts(folder)
    scores = {}
    for file in photos.rglob("?.png"):
        image = parts.preprocessing.transform()(open_rgb(file))[None]
        scores[file.name] = parts.model.compare(priors_of(parts, [TEXT]), parts.model.vision.look_once(image)).item()
    return scores


def test_what_is_found_is_what_the_dual_encoder_ranks_highest(checkpoint, photos, search, capsys):
    assert index(checkpoint) == 0
    said = capsys.readouterr().out
    assert "7 pictures in idx: 0 unchanged, 7 looked at" in said and "1 files that are not named like pictures" in said
    assert "1 pictures cannot be used, see idx/bad.jsonl; the first: bad.JPG: not an image" in said
    code, found, err = search("--top", 5)
    assert (code, err) == (0, [])
    expected = exact_scores(checkpoint, photos)
    best = sorted(expected, key=lambda name: -expected[name])[:5]
    assert [Path(each["image"]).name for each in found] == best and [each["rank"] for each in found] == [1, 2, 3, 4, 5]
    assert [each["similarity"] for each in found] == pytest.approx([expected[name] for name in best], abs=2e-4)
    assert all(Path(each["image"]).is_file() for each in found) and len({*expected.values()}) == 7
    assert json.loads(Path("idx/bad.jsonl").read_text())["reason"].startswith("not an image")


def test_only_what_changed_is_read_and_what_is_gone_is_dropped(lse, photos, search, looks, capsys):
    assert index(lse) == 0 and sum(looks) == 7
    looks.clear()
    assert index(lse) == 0 and looks == []
    assert "7 unchanged, 0 looked at, 0 of known content, 0 gone" in capsys.readouterr().out
    (photos / "b/0.png").unlink()
    (photos / "b/2.png").rename(photos / "a/renamed.png")
    shutil.copy(photos / "b/6.png", photos / "b/4.png")  # a known content under another one's name
    os.utime(photos / "a/1.png", ns=(5, 5))
    Image.new("RGB", (30, 30), "red").save(photos / "a/3.png")
    (photos / "bad.JPG").unlink()
    assert index(lse) == 0 and looks == [1]
    said = capsys.readouterr().out
    assert "6 pictures in idx: 2 unchanged, 1 looked at, 3 of known content, 2 gone" in said and "bad.jsonl" not in said
    kept = search("--top", 99)[1]
    shutil.rmtree("idx")
    assert index(lse) == 0
    anew = search("--top", 99)[1]
    assert [each["image"] for each in kept] == [each["image"] for each in anew] and len(kept) == 6
    assert [each["similarity"] for each in kept] == pytest.approx([each["similarity"] for each in anew], abs=1e-4)


def test_an_interrupted_index_says_so_and_goes_on(lse, photos, search, looks, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        computed, look_once = [], AbSViT.look_once

        def stop(self, images):
            computed.append(1)
            if len(computed) == 3:
                raise KeyboardInterrupt
            return look_once(self, images)

        patch.setattr(AbSViT, "look_once", stop)
        assert index(lse) == 130
    with next(Path("idx").glob("*.vectors")).open("ab") as stream:
        stream.write(b"half a row")
    code, _, err = search()
    assert code == 1 and err == [
        "error: idx: the index is unfinished; give the same vl-absvit index again to finish it"
    ]
    looks.clear()
    assert index(lse) == 0
    assert sum(looks) == 1 and "going on: 6 pictures of an interrupted run" in capsys.readouterr().err
    assert len(search("--top", 99)[1]) == 7


def test_the_whole_model_judges_the_best_and_a_sheet_shows_them(lse, photos, search):
    index(lse)
    plain = search("--top", 99)[1]
    code, found, _ = search("--top", 3, "--rerank", 4, "--sheet", "sheet.png")
    assert code == 0 and len(found) == 3
    assert [each["score"] for each in found] == sorted((each["score"] for each in found), reverse=True)
    assert {each["image"] for each in found} <= {each["image"] for each in plain[:4]}
    assert all(0 <= each["match"] <= 1 for each in found)
    assert Image.open("sheet.png").width > 600
    mixed = search("--top", 5, "--rerank", 2, "--sheet", "sheet.png")[1]
    assert ["score" in each for each in mixed] == [True, True, False, False, False]
    assert [each["image"] for each in mixed[2:]] == [each["image"] for each in plain[2:5]]
    Path(plain[0]["image"]).unlink()
    code, found, err = search("--top", 2, "--rerank", 2)
    assert code == 1 and [set(each) >= {"error"} for each in found] == [False, True] and len(err) == 2


def test_everything_may_be_moved_together(lse, photos, search, tmp_path, monkeypatch):
    index(lse)
    (tmp_path / "elsewhere").mkdir()
    for name in ("idx", "photos"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, found, _ = search("--top", 1, "--rerank", 1)
    assert code == 0 and Path(found[0]["image"]).is_file()


def test_an_index_of_another_checkpoint_is_refused_in_one_line(lse, photos, search, world, tmp_path, capsys):
    index(lse)
    other = save_model(tmp_path / "other", world, seed=1)
    code, _, err = search("--checkpoint", other)
    assert code == 1 and err[0].startswith(f"error: idx: was made with another checkpoint than {other}")
    capsys.readouterr()
    assert index(other) == 1
    assert "idx: holds an index of another checkpoint" in capsys.readouterr().err
    moved = shutil.copytree(lse, tmp_path / "moved")
    assert search("--checkpoint", moved)[0] == 0
    code, _, err = search("--checkpoint", tmp_path / "nowhere")
    assert code == 1 and "say where it is with --checkpoint" in err[0]


DAMAGES = {
    "a shorter file": lambda: os.truncate(next(Path("idx").glob("*.vectors")), 100),
    "no vectors": lambda: next(Path("idx").glob("*.vectors")).unlink(),
    "no rows": lambda: next(Path("idx").glob("*.rows")).unlink(),
    "fewer rows": lambda: os.truncate(next(Path("idx").glob("*.rows")), 150),
    "other rows": lambda: next(Path("idx").glob("*.rows")).write_text("x\n" * 8),
    "other numbers": lambda: next(Path("idx").glob("*.vectors")).write_bytes(b"\xff" * 7 * 4 * 16 * 2),
    "no JSON": lambda: Path("idx/index.json").write_text("{"),
    "a list": lambda: Path("idx/index.json").write_text("[]"),
    "no entries": lambda: Path("idx/index.json").write_text("{}"),
    "a wrong count": lambda: Path("idx/index.json").write_text(
        Path("idx/index.json").read_text().replace('"pictures": 7', '"pictures": 8')
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_one_line(damage, lse, photos, search):
    index(lse)
    DAMAGES[damage]()
    code, found, err = search()
    assert (code, found, len(err)) == (1, [], 1) and "idx" in err[0] or "damaged" in err[0]


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [
        (2, ["--top", 0], "--top must be at least 1 and --rerank at least 0"),
        (2, ["--text", "a", "b", "--sheet", "x.png"], "--sheet draws what one --text finds"),
        (1, ["--index", "nowhere"], "nowhere: there is no such index; vl-absvit index makes one"),
        (1, ["--index", "photos"], "photos: expected an index of pictures, got a folder without index.json"),
        (1, ["--text", " "], "the text is empty"),
        (1, ["--text", "ring " * 99], "the text is longer than the 24 tokens"),
    ],
)
def test_a_wrong_search_is_one_line(lse, photos, search, code, words, message):
    index(lse)
    found, said, err = search(*words)
    assert (found, said, len(err)) == (code, [], 1) and message in err[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "nowhere"], "nowhere: expected a folder of pictures"),
        (["--images", "empty"], "empty: there are no pictures, but 1 other files"),
        (["--output", "photos"], "photos: has "),
        (["--images", "bad"], "bad: none of 1 pictures can be used; x.png: empty file"),
    ],
)
def test_what_cannot_be_indexed_is_one_line(lse, photos, capsys, words, message):
    for folder, name in (("empty", "x.txt"), ("bad", "x.png")):
        Path(folder).mkdir()
        Path(folder, name).touch()
    assert index(lse, *words) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_vqa_model_searches_but_judges_no_pairs(world, photos, search, tmp_path):
    VQATask(tiny_vqa_config(world, tmp_path / "run")).save(tmp_path)
    assert index(tmp_path) == 0 and len(search()[1]) == 7
    code, _, err = search("--rerank", 2)
    assert code == 1 and "which judges pairs" in err[0]
