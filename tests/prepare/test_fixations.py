"""Eye fixations of every published form become one table; what is wrong is one line or a count."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.io import savemat

from vl_absvit.data.fixations import read_looked_at
from vl_absvit.errors import InputError
from vl_absvit.prepare.fixations import FixationOptions, prepare_fixations

SIZE = (8, 6)
HEADER = "image,observer,x,y,t\n"


@pytest.fixture
def prepare(tmp_path):
    """Prepare fixations about pictures a.png, b.png and deep/c.jpg; returns the manifest."""
    for name in ("a.png", "b.png", "deep/c.jpg", "other/c.jpg"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE).save(tmp_path / "pictures" / name)

    def run(place: Path, **options) -> dict:
        made = FixationOptions(fixations=place, images=tmp_path / "pictures", **options)
        return prepare_fixations(made, tmp_path / "out", workers=1)

    return run


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_table_is_read_in_the_order_of_its_times(prepare, tmp_path):
    lines = "a.png,p,2.5,1,300\na.png,p,0,0,100\na.png,q,7.9,5.9,50\ndeep/c.jpg,p,1,1,0\n"
    manifest = prepare(write(tmp_path / "f.csv", HEADER + lines))
    counts = manifest["splits"]["fixations"]
    assert (counts["fixations"], counts["images"], counts["observers"], counts["outside"]) == (4, 2, 2, 0)
    a, c = read_looked_at(tmp_path / "out")
    assert (a.file, a.size, c.file) == ("a.png", SIZE, "deep/c.jpg")
    rows = list(zip(a.observers.tolist(), a.numbers.tolist(), a.places.tolist(), strict=True))
    assert rows == [(0, 0, [7.9, 5.9]), (1, 0, [0, 0]), (1, 1, [2.5, 1])]
    assert a.without_first().places.tolist() == [[2.5, 1]] and not len(c.without_first().places)
    assert json.loads((tmp_path / "out/manifest.json").read_text())["kind"] == "fixations"


def test_the_first_pixel_is_one_where_matlab_counted(prepare, tmp_path):
    prepare(write(tmp_path / "f.csv", HEADER + "a.png,p,1,6,0\n"), one_based=True)
    assert read_looked_at(tmp_path / "out")[0].places.tolist() == [[0, 5]]


def test_osies_structs_are_read(prepare, tmp_path):
    def person(x, y):
        return {"fix_x": np.array(x), "fix_y": np.array(y), "fix_duration": np.array(x)}

    def record(image, *people):
        cell = np.empty((len(people), 1), dtype=object)
        cell[:, 0] = people
        return {"img": image, "subjects": cell}

    records = np.empty((2, 1), dtype=object)
    records[:, 0] = record("a.png", person([1.5, 2.5], [3.0, 4.0]), person([], [])), record("b.png", person(7, 5))
    savemat(tmp_path / "fixations.mat", {"fixations": records})
    manifest = prepare(tmp_path / "fixations.mat")
    counts = manifest["splits"]["fixations"]
    assert (counts["observers"], counts["empty_observers"]) == (1, 1)
    assert manifest["warnings"] == ["1 times an observer has no fixation in a picture"]
    a, b = read_looked_at(tmp_path / "out")
    assert a.places.tolist() == [[1.5, 3], [2.5, 4]] and b.places.tolist() == [[7, 5]]
    assert a.numbers.tolist() == [0, 1] and a.observers.tolist() == [0, 0]


def test_the_genuine_osie_excerpt_equals_its_plain_form(real_data, tmp_path):
    osie = real_data / "fixations/osie"
    options = FixationOptions(fixations=osie / "data/eye/fixations.mat", images=osie / "data/stimuli")
    prepare_fixations(options, tmp_path / "out", workers=1)
    plain = {record["image"]: record for record in json.loads((osie / "fixations.json").read_text())}
    pictures = read_looked_at(tmp_path / "out")
    assert len(pictures) == len(plain) == 6
    for picture in pictures:
        people = plain[picture.file]["observers"]
        expected = [[x, y] for person in people for x, y in zip(person["x"], person["y"], strict=True)]
        assert picture.places.tolist() == expected and picture.size == (800, 600)
        assert (picture.numbers == 0).sum() == 15


@pytest.mark.parametrize("form", ["matrices", "points"])
def test_fixated_pixels_are_read_without_observers_and_order(prepare, tmp_path, form):
    fixated = np.zeros(SIZE[::-1], dtype=np.uint8)
    fixated[2, 7] = fixated[5, 0] = 1
    (tmp_path / "m/deep").mkdir(parents=True)
    if form == "matrices":
        savemat(tmp_path / "m/deep/c.mat", {"fixLocs": fixated})
    else:
        Image.fromarray(fixated * 255).save(tmp_path / "m/deep/c_fixPts.png")
    counts = prepare(tmp_path / "m")["splits"]["fixations"]
    assert (counts["fixations"], counts["observers"], counts["has_order"]) == (2, 0, False)
    (picture,) = read_looked_at(tmp_path / "out")
    assert np.floor(picture.places).tolist() == [[7, 2], [0, 5]] and picture.file == "deep/c.jpg"
    assert picture.observers is None
    with pytest.raises(InputError, match="nobody knows which fixation was the first"):
        picture.without_first()


def test_the_genuine_matrix_of_the_mit_benchmark_has_its_pixels(real_data, tmp_path):
    demo = real_data / "fixations/mit_benchmark_demo"
    (tmp_path / "m").mkdir()
    (tmp_path / "m/stimulus.mat").write_bytes((demo / "fixation_locations.mat").read_bytes())
    manifest = prepare_fixations(FixationOptions(fixations=tmp_path / "m", images=demo), tmp_path / "out", workers=1)
    assert manifest["splits"]["fixations"]["fixations"] == 259


def test_the_folders_of_cat2000_tell_pictures_of_one_name_apart(tmp_path):
    """Matrices and pictures lie in folders of categories; beside the pictures are their saliency maps."""
    for category, (row, column) in {"Action": (2, 7), "Art": (5, 0)}.items():
        stimuli, places = tmp_path / "trainSet/Stimuli" / category, tmp_path / "trainSet/FIXATIONLOCS" / category
        (stimuli / "Output").mkdir(parents=True)
        places.mkdir(parents=True)
        Image.new("RGB", SIZE).save(stimuli / "001.jpg")
        Image.new("L", SIZE).save(stimuli / "Output/001_SaliencyMap.jpg")
        fixated = np.zeros(SIZE[::-1], dtype=np.uint8)
        fixated[row, column] = 1
        savemat(places / "001.mat", {"fixLocs": fixated})
    root = tmp_path / "trainSet"
    options = FixationOptions(fixations=root / "FIXATIONLOCS", images=root / "Stimuli")
    assert prepare_fixations(options, tmp_path / "out", workers=1)["splits"]["fixations"]["images"] == 2
    found = {each.file: np.floor(each.places).tolist() for each in read_looked_at(tmp_path / "out")}
    assert found == {"Action/001.jpg": [[7, 2]], "Art/001.jpg": [[0, 5]]}


def test_a_few_fixations_outside_are_left_out_and_counted(prepare, tmp_path):
    inside = "".join(f"a.png,p,1,1,{n}\n" for n in range(400))
    wrong = "a.png,q,-0.1,1,0\na.png,q,8,1,1\na.png,q,nan,1,2\n"
    manifest = prepare(write(tmp_path / "f.csv", HEADER + inside + wrong + "b.png,q,1,6,3\n"))
    assert manifest["splits"]["fixations"]["outside"] == 4
    assert manifest["warnings"] == [
        "4 fixations are outside their pictures and left out",
        "1 pictures have no fixation left",
    ]
    assert pq.read_table(tmp_path / "out/fixations.parquet").num_rows == 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png,p,1,7,0\n", "1 of 1 fixations are outside .* x 1, y 7 in a.png of 8 x 6; are x and y swapped"),
        ("a.png,p,one,1,0\n", "f.csv: line 2: expected a number under 'x', got 'one'"),
        (",p,1,1,0\n", "f.csv: line 2: expected the name of a picture under 'image', got nothing"),
        ("a.png,,1,1,0\n", "f.csv: line 2: expected who looked under 'observer', got nothing"),
        ("a.png,p,1_0,1,0\n", "f.csv: line 2: expected a number under 'x', got '1_0'"),
        ("a.png,p,1,1,inf\n", "f.csv: line 2: expected a finite number under 't', got inf"),
        ("a.png,p,1,1,0\na.png,p,1,1,\n", "some rows have a time under 't' and some have none"),
        ("a.png,p,1\n", "f.csv: line 2: 3 cells, expected 5"),
        ("c.jpg,p,1,1,0\n", "'c.jpg' may be deep/c.jpg or other/c.jpg; give the path below it"),
        (
            "z.png,p,1,1,0\n",
            "none of the 1 images of fixations is there: looked for z.png in .*, which has pictures such",
        ),
        ("", "f.csv: has no fixation"),
    ],
)
def test_a_wrong_table_is_one_line(prepare, tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        prepare(write(tmp_path / "f.csv", HEADER + text))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None}, "line 1: expected the name of a picture under 'image', got None"),
        ({"image": ["a.png"]}, "line 1: expected the name of a picture under 'image', got .'a.png'."),
        ({"observer": None}, "line 1: expected who looked under 'observer', got None"),
        ({"x": True}, "line 1: expected a number under 'x', got True"),
        ({"y": None}, "line 1: expected a number under 'y', got None"),
    ],
)
def test_cells_of_another_kind_are_one_line(prepare, tmp_path, changes, message):
    row = {"image": "a.png", "observer": 3, "x": 1, "y": 1} | changes
    with pytest.raises(InputError, match=message):
        prepare(write(tmp_path / "f.jsonl", json.dumps(row) + "\n"))


def test_fixations_that_repeat_another_one_are_told(prepare, tmp_path):
    manifest = prepare(write(tmp_path / "f.csv", HEADER + "a.png,p,1,1,0\na.png,p,1,1,0\na.png,q,1,1,0\n"))
    assert manifest["warnings"] == ["1 fixations repeat another one of observer, place and time"]


def test_other_columns_are_named(prepare, tmp_path):
    with pytest.raises(InputError, match="expected the columns image, observer, x, y and perhaps t, got"):
        prepare(write(tmp_path / "f.csv", "file,x,y\na.png,1,1\n"))


def test_samples_of_gaze_are_no_fixations(real_data, prepare):
    folder = real_data / "fixations/mit1003/made_up_raw_layout/DATA"
    with pytest.raises(
        InputError, match="holds samples of gaze, as MIT1003's DATA does, and no fixations; give ALLFIX"
    ):
        prepare(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.mat", b"\x89HDF\r\n", "version 7.3 is not read; save it with -v7"),
        ("f.mat", b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n", "version 7.3 is not read; save it with -v7"),
        ("f.mat", b"no", "expected a MATLAB file: "),
        ("f.npy", b"no", "expected a table"),
    ],
)
def test_another_file_is_one_line(prepare, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        prepare(tmp_path / name)


def test_a_matrix_too_large_and_another_variable_are_refused(prepare, tmp_path):
    (tmp_path / "m").mkdir()
    savemat(tmp_path / "m/a.mat", {"one": np.zeros((2, 2)), "two": np.zeros((2, 2))})
    with pytest.raises(InputError, match="expected one matrix that is not 0 at fixated pixels, got 2 matrices"):
        prepare(tmp_path / "m")
    savemat(tmp_path / "fixations.mat", {"other": 1})
    with pytest.raises(InputError, match="expected a cell 'fixations' of structs with img and subjects, as OSIE's"):
        prepare(tmp_path / "fixations.mat")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="expected matrices .* found none"):
        prepare(tmp_path / "empty")
