"""Folders whose classes are not the checkpoint's: which of its classes count for each, and what is refused."""

import json

import numpy as np
import pytest

from vl_absvit.errors import InputError
from vl_absvit.evaluation.classification_metrics import label_ranks
from vl_absvit.tasks.class_mapping import CLASSES, LABELS, ClassMapping, mapped_classes, read_mapping, remarks
from vl_absvit.tasks.vision_evaluation import imagenet_synsets

NUMBERS = [str(number) for number in range(1000)]


@pytest.fixture
def objectnet(tmp_path):
    """The two files of ObjectNet's ``mappings`` that are needed, cut short."""
    folder = tmp_path / "mappings"
    folder.mkdir()
    labels = {
        "alarm_clock": "Alarm clock",
        "air_freshener": "Air freshener",
        "chair": "Chair",
        "still_camera": "Camera",
    }
    classes = {
        "Alarm clock": "analog clock; digital clock",
        "Chair": "barber chair; folding chair; rocking chair, rocker",
        "Camera": "Polaroid camera, Polaroid Land camera; reflex camera",
    }
    (folder / LABELS).write_text(json.dumps(labels))
    (folder / CLASSES).write_text(json.dumps(classes))
    return folder


def test_objectnets_own_files_name_classes_by_imagenets_descriptions(objectnet):
    mapping = read_mapping(objectnet)
    classes = mapped_classes(mapping, NUMBERS, "DIR")
    assert classes.names == ["alarm_clock", "chair", "still_camera"] and mapping.border == 2
    synsets = imagenet_synsets()
    owned = {name: [synsets[column] for column in np.flatnonzero(classes.owners == place)]
             for place, name in enumerate(classes.names)}  # fmt: skip
    assert owned == {
        "alarm_clock": ["n02708093", "n03196217"],  # analog, digital
        "chair": ["n02791124", "n03376595", "n04099969"],  # barber, folding, rocking
        "still_camera": ["n03976467", "n04069434"],  # Polaroid, reflex
    }
    assert (classes.owners == -1).sum() == 1000 - 7 and classes.columns.tolist() == list(range(1000))


def test_a_file_names_one_class_or_several_as_the_checkpoint_does_or_by_description(tmp_path):
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"seat": ["n02791124", "folding chair"], "bug": "ant"}))
    mapping = read_mapping(path)
    classes = mapped_classes(mapping, ["ant", "n02791124", "bee", "n03376595"], "DIR")
    assert classes.names == ["bug", "seat"] and classes.owners.tolist() == [0, 1, -1, 1] and mapping.border == 0


def test_a_picture_is_right_where_the_best_of_all_classes_is_one_of_its_folder_s():
    owners = np.array([0, 1, 0, -1])  # of four logits
    logits = np.array(
        [[3.0, 2.0, 1.0, 0.0], [1.0, 2.0, 3.0, 0.0], [1.0, 3.0, 2.0, 0.0], [0.0, 1.0, 0.0, 2.0], [1.0, 2.0, 2.0, 0.0]]
    )
    assert label_ranks(logits, np.array([0, 0, 0, 1, 0]), owners).tolist() == [0, 0, 1, 1, 1]
    assert label_ranks(logits, np.array([0, 1, 2, 3, 1])).tolist() == [0, 1, 1, 0, 1], "each its own"


def test_ranks_are_those_of_the_official_way_of_counting():
    """Predictions in order of logits, each mapped to a folder; right within k where the folder is among the first k."""
    rng = np.random.default_rng(0)
    owners, logits = rng.integers(-1, 5, size=30), rng.standard_normal((200, 30))
    owners[:5] = range(5)
    labels = rng.integers(5, size=200)
    ranks = label_ranks(logits, labels, owners)
    for k in (1, 5):
        first = owners[np.argsort(-logits, axis=1)[:, :k]]
        assert ((ranks < k) == (first == labels[:, None]).any(axis=1)).all()


def test_what_is_left_out_or_missing_is_said(objectnet):
    mapping = read_mapping(objectnet)
    left_out, counts = remarks(mapping, ["air_freshener", "alarm_clock", "chair"], ["alarm_clock", "chair"])
    assert left_out == "1 folders are not in mappings and left out, e.g. air_freshener"
    assert counts == ("ObjectNet as published has 313 folders, 113 of them with classes of ImageNet; this has 3 and 3")
    assert remarks(ClassMapping(objectnet, {"a": ["b"]}, is_objectnets=False), ["a"], ["a"]) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": ["wasp"]}, "map.json: a: DIR has no class 'wasp'"),
        ({"a": ["crane"]}, "map.json: a: DIR has no class 'crane'"),  # a bird and a machine
        ({"a": ["n02791124"], "b": ["barber chair"]}, "the class 'barber chair' counts for two folders, a and b"),
        ({"a": []}, "map.json: 'a': expected a class or a list of classes, got a list"),
        ({"a": 3}, "map.json: 'a': expected a class or a list of classes, got a number"),
        ({"a": [""]}, "expected a class or a list of classes"),
        (["a"], "map.json: expected an object at the top level, got a list"),
    ],
)
def test_a_wrong_mapping_is_one_line(tmp_path, content, message):
    path = tmp_path / "map.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        mapped_classes(read_mapping(path), NUMBERS, "DIR")


def test_files_of_objectnet_that_do_not_fit_together_are_one_line(objectnet, tmp_path):
    (objectnet / LABELS).write_text('{"chair": "Chair"}')
    with pytest.raises(
        InputError, match="2 of its labels are not in folder_to_objectnet_label.json, e.g. 'Alarm clock'"
    ):
        read_mapping(objectnet)
    (objectnet / LABELS).write_text('{"chair": ["Chair"]}')
    with pytest.raises(InputError, match="folder_to_objectnet_label.json: 'chair': expected a label, got a list"):
        read_mapping(objectnet)
    (objectnet / LABELS).unlink()
    with pytest.raises(InputError, match="folder_to_objectnet_label.json: no such file"):
        read_mapping(objectnet)
    with pytest.raises(InputError, match="nowhere: no such file"):
        read_mapping(tmp_path / "nowhere")
