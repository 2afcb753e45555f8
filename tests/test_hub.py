"""Folders and hub names behind one resolver, from a cache as the hub's library keeps it; nothing is asked for."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from vl_absvit import hub
from vl_absvit.errors import InputError
from vl_absvit.hub import Found, find

FIRST, SECOND = "1" * 40, "2" * 40


def keep_in_cache(cache: Path, repository: str, files: dict[str, str], commit: str = FIRST, ref: str = "main") -> Path:
    """What a download of one revision leaves behind."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        (snapshot / name).write_text(content)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / ref).write_text(commit)
    return snapshot


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and an empty folder to work in."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cache"


def test_a_name_is_found_with_its_commit(cache):
    first = keep_in_cache(cache, "lab/model", {"config.json": "1"})
    second = keep_in_cache(cache, "lab/model", {"config.json": "2"}, SECOND, "v2")
    assert find("lab/model", "--checkpoint") == Found(first, f"lab/model@{FIRST}")
    assert find(Path("lab/model@v2"), "--checkpoint") == Found(second, f"lab/model@{SECOND}")
    assert find(f"lab/model@{SECOND}", "--checkpoint").path == second
    assert find("hf-hub:lab/model@v2", "vision.weights") == find("hf_hub:lab/model@v2", "vision.weights")


def test_a_folder_of_that_name_wins(cache):
    snapshot = keep_in_cache(cache, "lab/model", {"config.json": "1"})
    for name in ("lab/model", "lab/model@main"):
        Path(name).mkdir(parents=True)
        assert find(name, "--checkpoint") == Found(Path(name), name)
    assert find("hf-hub:lab/model", "--checkpoint").path == snapshot


@pytest.mark.parametrize(
    "name",
    ["nowhere", "a/b/c", "/lab/model", "./lab/model", "~/model", "lab/model/", "lab/model.safetensors", "lab/model@"],
)
def test_what_can_only_be_a_path_is_not_asked_for(name, cache, monkeypatch):
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: pytest.fail("asked for"))
    assert find(name, "vision.weights") == Found(Path(name), name)


def test_text_models_have_names_without_an_owner(cache):
    snapshot = keep_in_cache(cache, "roberta-base", {"config.json": "{}"})
    assert find("roberta-base", "text.model", is_text=True) == Found(snapshot, f"roberta-base@{FIRST}")
    assert find("roberta-base", "--checkpoint").path == Path("roberta-base")


@pytest.mark.parametrize(("name", "revision"), [("lab/other", "main"), ("lab/model@v3", "v3")])
def test_what_is_not_to_be_had_is_one_line_that_names_folder_and_repository(name, revision, cache):
    keep_in_cache(cache, "lab/model", {"config.json": "1"})
    with pytest.raises(InputError) as error:
        find(name, "--checkpoint")
    repository = name.partition("@")[0]
    assert str(error.value) == (
        f"--checkpoint {name}: no such folder, and not to be had by that name: revision {revision} of {repository} is "
        f"not in the cache {cache}, and HF_HUB_OFFLINE forbids to ask"
    )


def test_only_safetensors_and_texts_of_the_top_folder_are_asked_for(cache, monkeypatch):
    asked = {}
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **options: asked.update(options) or "cache/commit")
    find("lab/model", "--checkpoint")
    assert asked["allow_patterns"] == ["*.safetensors", "*.json", "*.txt"] and asked["ignore_patterns"] == ["*/*"]
