"""The world to pretrain on pairs: its scenes are in no other, statements say what is so, and no text tells a label."""

import hashlib
import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image

from vl_absvit.demo import nlvr2, snli_ve
from vl_absvit.demo.captions import WORLDS
from vl_absvit.demo.language import PLURALS
from vl_absvit.demo.pretraining import make_pretraining_world
from vl_absvit.demo.scene import COLOURS, SHAPES, TEXTURES, generator, masks, sample_scene, split_of
from vl_absvit.demo.world import VQA_SPLITS
from vl_absvit.evaluation.statement_metrics import statement_scores
from vl_absvit.prepare.nlvr2 import NLVR2Options, prepare_nlvr2
from vl_absvit.prepare.pairs import PairOptions, prepare_pairs
from vl_absvit.prepare.snli_ve import SNLIVEOptions, prepare_snli_ve

PICTURES = 20
NUMBERS = {"one": 1, "two": 2, "three": 3}
SINGULAR = {plural: shape for shape, plural in PLURALS.items()}


def track(items, total, description):
    return items


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretraining") / "world"
    assert make_pretraining_world(folder, seed=3, pictures=PICTURES, workers=1, track=track)
    return folder


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def number_of(words, things):
    """How many things a phrase such as "striped rings" or "red object" fits, word by word."""
    words = [SINGULAR.get(word, word) for word in words.split() if word not in ("object", "objects")]
    assert set(words) <= {*COLOURS, *TEXTURES, *SHAPES}
    return sum(set(words) <= {thing.colour, thing.texture, thing.shape} for thing in things)


def test_processes_and_a_second_run_change_nothing(world, tmp_path):
    make_pretraining_world(tmp_path / "again", seed=3, pictures=PICTURES, workers=2, track=track)
    assert files_of(tmp_path / "again") == files_of(world)
    assert make_pretraining_world(world, seed=3, pictures=PICTURES, workers=1, track=track) is False


def test_the_prepare_commands_read_every_part(world, tmp_path):
    pairs = PairOptions(dataset="conceptual_captions", root=world / "conceptual_captions", val_share=0.2)
    counts = prepare_pairs(pairs, tmp_path / "pairs", workers=1)["counts"]
    assert counts == {"captions": PICTURES, "pictures": PICTURES}, "no picture repeats another one"
    manifest = prepare_nlvr2(NLVR2Options(root=world / "nlvr2"), tmp_path / "nlvr2", workers=1)
    sets = {"train": 2, "dev": 2, "test1": 2}
    assert {split: found["labels"] for split, found in manifest["splits"].items()} == {
        split: {"False": 8 * number, "True": 8 * number} for split, number in sets.items()
    }
    assert manifest["shared_addresses"] == {}
    manifest = prepare_snli_ve(SNLIVEOptions(root=world / "snli_ve"), tmp_path / "snli_ve", workers=1)
    for split in ("train", "dev", "test"):
        labels = manifest["splits"][split]["labels"]
        assert len(set(labels.values())) == 1 and labels["neutral"] > 0
    assert not [said for said in manifest["warnings"] if "images of train" in said]


def test_records_have_the_official_keys(world, real_data):
    for split, folder in (("dev", "dev"), ("test1", "test1")):
        (ours, *_), (theirs, *_) = (
            lines_of(root / f"nlvr2/data/{split}.json") for root in (world / "nlvr2", real_data / "nlvr2")
        )
        assert {key: type(value) for key, value in ours.items()} == {key: type(value) for key, value in theirs.items()}
        assert (world / "nlvr2" / folder / f"{ours['identifier'].rpartition('-')[0]}-img0.png").is_file()
    (train, *_) = lines_of(world / "nlvr2/nlvr2/data/train.json")
    assert "extra_validations" not in train and (world / f"nlvr2/images/train/{train['directory']}").is_dir()
    (ours, *_) = lines_of(world / "snli_ve/snli_ve_dev.jsonl")
    (theirs, *_) = lines_of(real_data / "snli-ve/snli_ve_excerpt.jsonl")
    assert ours.keys() == {key for key in theirs if not key.endswith("parse")}
    assert re.fullmatch(r"\d+\.jpg#\dr\d+[enc]", ours["pairID"])


def test_no_captioned_scene_and_no_picture_is_in_another_world(world):
    """Nor has a captioned scene a combination of colours and shapes that any world judges by."""
    captioned = {sample_scene(generator(3, "captioned", number), "train") for number in range(200)}
    assert {split_of([(thing.shape, thing.colour) for thing in scene]) for scene in captioned} == {"train"}
    others = [(f"{each.dataset} train", "train") for each in WORLDS] + list(VQA_SPLITS.items())
    for part, split in others:
        assert captioned.isdisjoint(sample_scene(generator(3, part, number), split) for number in range(100))
    digests = [
        hashlib.sha256(path.read_bytes()).digest()
        for path in world.rglob("*")
        if path.suffix in ("", ".jpg", ".png") and path.is_file()
    ]
    assert len(digests) == len(set(digests)) == PICTURES + 3 * 2 * 8 + 3 * 12
    corner = {
        part: np.mean([np.asarray(Image.open(path))[:4, :4] for path in (world / part).rglob("*") if path.is_file()])
        for part in ("conceptual_captions/images_train", "snli_ve/flickr30k-images")
    }
    assert corner["conceptual_captions/images_train"] < corner["snli_ve/flickr30k-images"] - 30, "it is dusk there"


def holds(text, left, right):
    """Whether a sentence is true of two scenes, read word by word."""
    if found := re.fullmatch("There is a (.+) in both pictures.", text):
        return number_of(found[1], left) > 0 and number_of(found[1], right) > 0
    if found := re.fullmatch("There is a (.+) in only one of the pictures.", text):
        return (number_of(found[1], left) > 0) + (number_of(found[1], right) > 0) == 1
    if found := re.fullmatch("There is no (.+) in the two pictures.", text):
        return number_of(found[1], [*left, *right]) == 0
    if found := re.fullmatch("There is a (.+) in the (left|right) picture.", text):
        return number_of(found[1], left if found[2] == "left" else right) > 0
    if found := re.fullmatch("There are more (.+) in the (left|right) picture.", text):
        more, fewer = (left, right) if found[2] == "left" else (right, left)
        return number_of(found[1], more) > number_of(found[1], fewer)
    found = re.fullmatch("There (?:is|are) (one|two|three) (.+) in the two pictures together.", text)
    return number_of(found[2], [*left, *right]) == NUMBERS[found[1]]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_sentence_of_two_pictures_says_what_is_so_and_is_as_often_true_as_false(split):
    openings = Counter()
    for number in range(12):
        made = nlvr2.sample_set(generator(0, f"set {split}", number), split)
        labels = np.array([sentence.labels for sentence in made.sentences])
        assert labels.shape == (4, 4) and (labels.sum(axis=0) == 2).all() and (labels.sum(axis=1) == 2).all()
        assert len({sentence.text for sentence in made.sentences}) == 4
        for text, of_pairs in made.sentences:
            assert [holds(text, *pair) for pair in made.pairs] == list(of_pairs), text
            openings[" ".join(text.split()[:3])] += 1
    assert len(openings) >= 4, "several kinds of sentences are found"


def test_lines_have_the_labels_of_their_sentences(world):
    for split in nlvr2.SPLITS:
        lines = lines_of(world / f"nlvr2/nlvr2/data/{split}.json")
        of_text, of_pair = defaultdict(Counter), defaultdict(Counter)
        for line in lines:
            _, images, pair, sentence = line["identifier"].split("-")
            of_text[images, sentence, line["sentence"]][line["label"]] += 1
            of_pair[images, pair][line["label"]] += 1
            assert set(line["validation"].values()) == {line["label"]}
        assert all(each == {"True": 2, "False": 2} for each in [*of_text.values(), *of_pair.values()])
        names, labels = [line["identifier"] for line in lines], np.array([line["label"] == "True" for line in lines])
        always = statement_scores("nlvr2", names, labels, np.ones(len(names), bool), [None] * len(names))
        assert always == {"accuracy": 50.0, "consistency": 0.0}


def sampled(split, number):
    return [snli_ve.sample_picture(generator(0, f"shown {split}", k), split, k) for k in range(number)]


def test_a_label_follows_from_what_is_to_be_seen_and_no_text_tells_it():
    pictures = sampled("train", 300)
    chosen = snli_ve.choose(pictures, np.random.default_rng(0))
    of_text, of_silhouettes = defaultdict(Counter), defaultdict(Counter)
    for place, text, label in chosen:
        said = re.fullmatch(r"(?:There is|This image shows|We see) a (\S+ \S+?)(?: in the picture)?\.", text)[1]
        shown = pictures[place]
        shape = said.split()[1]
        is_open = any(thing.shape == shape for thing in shown.silhouettes)
        expected = "entailment" if number_of(said, shown.seen) else "neutral" if is_open else "contradiction"
        assert label == expected, text
        of_text[text][label] += 1
        of_silhouettes[len(shown.silhouettes)][label] += 1
    for counts in of_text.values():
        assert counts["entailment"] == counts["neutral"] == counts["contradiction"] > 0
    for counts in of_silhouettes.values():
        assert max(counts.values()) < 0.45 * counts.total(), "nor does the number of silhouettes"
    assert len({(place, text) for place, text, _ in chosen}) == len(chosen)
    assert 5.5 < len(chosen) / len(pictures) < 6.5, "the budget of scripts/pairs_evidence.sh goes by six"


def test_a_silhouette_shows_its_shape_alone():
    picture = next(each for each in sampled("val", 20) if len(each.silhouettes) == 2)
    drawn = np.asarray(snli_ve.draw_picture(picture, np.random.default_rng(0)), dtype=int)
    for things, is_dark in ((picture.silhouettes, True), (picture.seen, False)):
        for thing in things:
            inside, _ = masks(thing)
            x0, y0, _, _ = thing.box
            rows, columns = np.nonzero(inside == 1)
            pixels = drawn[rows + y0 - 1, columns + x0 - 1]
            assert (np.abs(pixels - snli_ve.DARK).max() <= 1) == is_dark
