"""Domains become folders that leave out one each; faults of lists are mended and counted, or one line."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.run_script import run_script
from vl_absvit.data.class_folders import ImageFolderDataset
from vl_absvit.data.transforms import image_transform
from vl_absvit.errors import InputError
from vl_absvit.prepare.check_images import CheckedImage
from vl_absvit.prepare.domain_lists import find_lists, read_domains
from vl_absvit.prepare.domains import DomainOptions, prepare_domains

DOMAINS, CLASSES = ("ink", "oil", "pen"), ("ant", "bee")


@pytest.fixture
def raw(tmp_path):
    """Three domains, per class two pictures to train on and one held out, all of different greys."""
    root, grey = tmp_path / "raw", 0
    for domain in DOMAINS:
        lines = {"train": [], "crossval": []}
        for label, name in enumerate(CLASSES, start=1):
            (root / "kfold" / domain / name).mkdir(parents=True)
            for number in range(3):
                grey += 5
                file = f"{domain}/{name}/{number}.png"
                Image.new("RGB", (9, 8), (grey,) * 3).save(root / "kfold" / file)
                lines["crossval" if number == 2 else "train"].append(f"{file} {label}")
        write_list(root, domain, "train", lines["train"])
        write_list(root, domain, "crossval", lines["crossval"])
        write_list(root, domain, "test", lines["train"] + lines["crossval"])
    return root


def write_list(root: Path, domain: str, part: str, lines: list[str]) -> None:
    (root / f"{domain}_{part}_kfold.txt").write_text("".join(f"{line}\n" for line in lines))


def read_list(root: Path, domain: str, part: str) -> list[str]:
    return (root / f"{domain}_{part}_kfold.txt").read_text().splitlines()


def prepare(root: Path, output: Path, **options) -> dict:
    return prepare_domains(DomainOptions(root=root, **options), output, workers=1)


def greys(folder: Path) -> dict[str, int]:
    """Path below a folder -> shade of the picture there."""
    found = {}
    for path in sorted(folder.rglob("*.png")):
        with Image.open(path) as picture:
            found[str(path.relative_to(folder))] = picture.getpixel((0, 0))[0]
    return found


def test_every_picture_is_in_the_right_splits_of_every_target(raw, tmp_path):
    manifest = prepare(raw, tmp_path / "out")
    shade = {(domain, name, number): 5 * (1 + 6 * d + 3 * c + number)
             for d, domain in enumerate(DOMAINS) for c, name in enumerate(CLASSES) for number in range(3)}  # fmt: skip
    for target in DOMAINS:
        expected = {
            f"{split}/{name}/{domain}-{number}.png": grey
            for (domain, name, number), grey in shade.items()
            for split in [("test" if domain == target else "val" if number == 2 else "train")]
        }
        assert greys(tmp_path / "out" / target) == expected
        assert [manifest["splits"][target][split]["images"] for split in ("train", "val", "test")] == [8, 4, 6]
    assert manifest["splits"]["oil"]["val"]["domains"] == {"ink": {"ant": 1, "bee": 1}, "pen": {"ant": 1, "bee": 1}}
    assert manifest["warnings"] == [] and manifest["classes"] == ["ant", "bee"]


def test_a_picture_is_on_the_disk_once_and_trainings_know_the_content(raw, tmp_path):
    manifest = prepare(raw, tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*.png")]
    assert len(files) == 18 * 3 and len({path.stat().st_ino for path in files}) == 18
    data = ImageFolderDataset(tmp_path / "out/pen", ["val"], image_transform(8, (0.0,) * 3, (1.0,) * 3))
    assert data.files.content() == manifest["content"]["pen"]["val"] != manifest["content"]["pen"]["train"]


def test_what_is_there_already_is_kept_and_other_lists_are_refused(raw, tmp_path):
    first = prepare(raw, tmp_path / "out")
    assert prepare(raw, tmp_path / "out") == first
    write_list(raw, "pen", "test", reversed(read_list(raw, "pen", "test")))
    with pytest.raises(InputError, match="was prepared from other sources.*choose another --output"):
        prepare(raw, tmp_path / "out")


def test_an_interrupted_preparation_goes_on_and_gives_the_same(raw, tmp_path, monkeypatch):
    whole = prepare(raw, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("vl_absvit.prepare.domains._link", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(raw, tmp_path / "out")
    assert list((tmp_path / "out.partial").rglob("*.png")) and not (tmp_path / "out").exists()
    monkeypatch.setattr("vl_absvit.prepare.check_images.check_image", pytest.fail)  # nothing is checked again
    assert prepare(raw, tmp_path / "out") == whole
    assert greys(tmp_path / "out") == greys(tmp_path / "whole")


def test_lists_may_be_gzipped_elsewhere_and_without_one_of_the_whole_domain(raw, tmp_path):
    whole = prepare(raw, tmp_path / "whole")
    (tmp_path / "lists").mkdir()
    for path in raw.glob("*.txt"):
        if "test" not in path.name:
            (tmp_path / "lists" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    manifest = prepare(raw, tmp_path / "out", lists=tmp_path / "lists")
    assert greys(tmp_path / "out") == greys(tmp_path / "whole") and manifest["splits"] == whole["splits"]


# Faults that are mended and counted.


def test_a_label_that_contradicts_its_folder_is_counted_and_the_folder_counts(raw, tmp_path):
    write_list(raw, "oil", "crossval", ["oil/ant/2.png 0", "oil/bee/2.png 2"])
    manifest = prepare(raw, tmp_path / "out")
    (warning,) = manifest["warnings"]
    assert warning.startswith("1 line(s) have a label that contradicts the folder") and "0 of oil/ant/2.png" in warning
    (line,) = manifest["mislabelled_lines"]
    assert line.endswith("oil_crossval_kfold.txt: line 1: oil/ant/2.png has label 0")
    assert (tmp_path / "out/pen/val/ant/oil-2.png").is_file()


def test_labels_may_count_from_0(raw, tmp_path):
    for domain in DOMAINS:
        for part in ("train", "crossval", "test"):
            lines = [line.split() for line in read_list(raw, domain, part)]
            write_list(raw, domain, part, [f"{path} {int(label) - 1}" for path, label in lines])
    assert prepare(raw, tmp_path / "out")["warnings"] == []


def test_a_line_that_stands_twice_and_a_picture_of_the_whole_list_alone_are_counted(raw, tmp_path):
    write_list(raw, "pen", "train", [*read_list(raw, "pen", "train")[1:], read_list(raw, "pen", "train")[1]])
    manifest = prepare(raw, tmp_path / "out")
    first, second = manifest["warnings"]
    assert first.startswith("1 line(s) repeat others and are left out; the first is pen/ant/1.png")
    assert second == "pen: 1 picture(s) are tested on alone, in no other list, e.g. pen/ant/0.png"
    assert (tmp_path / "out/pen/test/ant/pen-0.png").is_file()
    assert not (tmp_path / "out/ink/train/ant/pen-0.png").exists()
    assert manifest["splits"]["ink"]["train"]["domains"]["pen"] == {"ant": 1, "bee": 2}


def test_pictures_without_a_list_bad_ones_and_equal_ones_are_counted(raw, tmp_path):
    folder = raw / "kfold"
    shutil.copy(folder / "ink/ant/0.png", folder / "ink/ant/7.png")
    shutil.copy(folder / "ink/ant/0.png", folder / "pen/ant/2.png")
    (folder / "oil/bee/1.png").write_bytes(b"no picture")
    (folder / "oil/bee/.DS_Store").write_bytes(b"of a file manager")
    manifest = prepare(raw, tmp_path / "out")
    bad, same, unlisted = manifest["warnings"]
    assert bad.startswith("1 images cannot be used") and bad.endswith("1 of oil")
    assert manifest["skipped_images"][0]["file"] == "kfold/oil/bee/1.png"
    assert same == (
        "1 picture(s) repeat others byte for byte, 1 of these in another domain or part, e.g. ink/ant/0.png and "
        "pen/ant/2.png"
    )
    assert unlisted == "1 files are in no list and left out, e.g. ink/ant/7.png"
    assert manifest["splits"]["ink"]["train"]["domains"]["oil"] == {"ant": 2, "bee": 1}


def test_missing_pictures_are_one_line_unless_they_may_be(raw, tmp_path):
    (raw / "kfold/pen/bee/0.png").unlink()
    with pytest.raises(InputError, match=r"1 of 18 pictures are missing, the first is .*pen/bee/0.png; --allow-miss"):
        prepare(raw, tmp_path / "out")
    manifest = prepare(raw, tmp_path / "out", allow_missing_images=True)
    assert manifest["splits"]["ink"]["train"]["images"] == 7 and "they are left out" in manifest["warnings"][0]


# Bad input.


@pytest.mark.parametrize(
    ("part", "lines", "message"),
    [
        ("train", ["pen/ant/0.png"], "pen_train_kfold.txt: line 1: expected DOMAIN/CLASS/FILE and a label, got 'pen/"),
        ("train", ["pen/../ink/0.png 1"], "line 1: expected DOMAIN/CLASS/FILE and a label"),
        ("train", ["/pen/ant/0.png 1"], "line 1: expected DOMAIN/CLASS/FILE and a label"),
        ("train", ["pen/ant/0.png 1", "oil/ant/0.png 1"], "line 2: expected a picture of pen, as the list's name says"),
        ("train", ["pen/ant/0.txt 1"], "line 1: expected a picture .*, got pen/ant/0.txt"),
        ("train", ["pen/ant/0.png one"], "line 1: expected DOMAIN/CLASS/FILE and a label"),
        ("train", [], "pen_train_kfold.txt: the list is empty"),
        ("crossval", ["pen/ant/2.png 1", "pen/ant/0.png 1"], "1 of its pictures are in pen_train_kfold.txt, too, e.g."),
        ("test", ["pen/ant/0.png 1"], "expected the whole domain, but 5 pictures of the other two lists are not in it"),
        ("crossval", ["pen/ant/2.png 2", "pen/bee/2.png 1"], None),
    ],
)
def test_a_wrong_list_is_one_line(raw, part, lines, message):
    write_list(raw, "pen", part, lines)
    if message is None:  # two of 36 labels may be wrong
        assert len(read_domains(find_lists(raw)).mislabelled) == 2
        return
    with pytest.raises(InputError, match=message):
        read_domains(find_lists(raw))


def test_labels_of_something_else_are_refused(raw):
    for domain in DOMAINS:
        for part in ("train", "crossval", "test"):
            paths = [line.split()[0] for line in read_list(raw, domain, part)]
            write_list(raw, domain, part, [f"{path} {place % 3}" for place, path in enumerate(paths)])
    with pytest.raises(InputError, match="expected a label for each folder of a class; .* of 36 pictures have another"):
        read_domains(find_lists(raw))
    for domain in DOMAINS:
        for part in ("train", "crossval", "test"):
            write_list(raw, domain, part, [f"{line.split()[0]} 4" for line in read_list(raw, domain, part)])
    with pytest.raises(InputError, match="the lists give the classes ant and bee the same label 4"):
        read_domains(find_lists(raw))


def test_missing_lists_are_one_line(raw, tmp_path):
    shutil.copytree(raw, raw / "again", ignore=shutil.ignore_patterns("kfold"))
    with pytest.raises(InputError, match="two lists of the same pictures, .*; say which with --lists"):
        find_lists(raw)
    (raw / "again/oil_crossval_kfold.txt").unlink()
    with pytest.raises(InputError, match="there is no oil_crossval_kfold.txt beside"):
        find_lists(raw / "again")
    with pytest.raises(InputError, match="expected lists such as photo_train_kfold.txt, there is none"):
        find_lists(raw / "kfold")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        find_lists(tmp_path / "nowhere")
    for path in [*raw.glob("ink*"), *raw.glob("oil*")]:
        path.unlink()
    shutil.rmtree(raw / "again")
    with pytest.raises(InputError, match="expected lists of two domains at least, there are those of pen alone"):
        find_lists(raw)


def test_pictures_elsewhere_and_a_class_that_a_domain_lacks_are_one_line(raw, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    for path in raw.glob("*.txt"):
        shutil.copy(path, lists)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match="no picture of the lists is there: looked for the folders ink, oil, pen besid"
    ):
        prepare(tmp_path / "empty", tmp_path / "out", lists=lists)
    for part in ("train", "crossval", "test"):
        write_list(raw, "pen", part, [line for line in read_list(raw, "pen", part) if "ant" in line])
    with pytest.raises(InputError, match="pen have no picture of bee; all domains need all classes"):
        prepare(raw, tmp_path / "out")


# Genuine files.


def test_the_published_lists_have_three_faults_which_are_mended(real_data):
    lists = read_domains(find_lists(real_data / "pacs/official_splits"))
    assert {name: tuple(map(len, domain)) for name, domain in lists.domains.items()} == {
        "art_painting": (1840, 207, 2048),
        "cartoon": (2107, 237, 2344),
        "photo": (1499, 171, 1670),
        "sketch": (3531, 398, 3929),
    }
    assert [one.path for one in lists.mislabelled] == ["art_painting/dog/pic_225.jpg"]
    assert [one.path for one in lists.repeated] == ["art_painting/dog/pic_248.jpg"]
    art = lists.domains["art_painting"]
    assert {one.path for one in art.whole} - {one.path for one in (*art.train, *art.held_out)} == {
        "art_painting/dog/pic_249.jpg"
    }


def test_an_excerpt_of_pacs_is_prepared_and_says_how_it_differs(real_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "vl_absvit.prepare.check_images.check_image", lambda _, image: CheckedImage(image[0], (227, 227), None)
    )
    words = ("--root", real_data / "pacs", "--lists", real_data / "pacs/splits", "--workers", 1)
    assert run_script("vl-absvit", "prepare-domains", *words, "--output", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "without sketch: 21 pictures to train on, 21 to select on; 14 of sketch to test on" in said.out
    counts = "photo: 7 / 7 / 14 pictures to train on / held out / in all; PACS as published has 1499 / 171 / 1670"
    assert counts in said.err
    assert json.loads((tmp_path / "out/manifest.json").read_text())["classes"][0] == "dog"
