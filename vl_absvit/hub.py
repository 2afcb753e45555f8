"""Checkpoints, weights and tokenizers by their folder or by their name on the hub.

``lab/absvit-vqa`` is a folder of that name if there is one, else a repository on the hub; ``lab/absvit-vqa@v2`` is the
branch, tag or commit ``v2`` of it, and ``hf-hub:lab/absvit-vqa`` (as timm writes it) never a folder. Only what such a
value names is fetched, and of it only what is read here: safetensors and texts, no pickles.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import CommitOperationAdd, HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from vl_absvit.errors import ConfigError, InputError, one_line

TEXTS = ("*.json", "*.txt")  # a tokenizer needs no more
WEIGHTS_AND_TEXTS = ("*.safetensors", *TEXTS)
_PREFIX = re.compile("hf[-_]hub:")
_PART = r"(?![.-])[\w.-]{1,96}(?<![.-])"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}", re.ASCII)
_OLD_REPOSITORY = re.compile(_PART, re.ASCII)  # such as roberta-base
_FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".npz", ".pkl", ".json")  # no repository's name ends so


class Found(NamedTuple):
    """Something that an option names."""

    path: Path  # the folder or file
    name: str  # for results: as given, or with the commit, ``lab/absvit-vqa@0a1b...``, which names the same for ever


def find(
    name: str | Path, option: str, *, only: Sequence[str] = WEIGHTS_AND_TEXTS, is_text: bool = False, **hub: Any
) -> Found:
    """The folder or file that an option's value names; what is on the hub is fetched, or taken from its cache.

    A path that does not exist and cannot be a repository is given back as it is: its reader knows what should be there.

    Args:
        name: folder, file, or repository with or without ``@REVISION``.
        option: named in errors.
        only: files of a repository that are fetched.
        is_text: text models have names without an owner, too.
        hub: further arguments of ``huggingface_hub.snapshot_download``.

    Raises:
        InputError: there is no such folder, and no such repository or revision is to be had.
    """
    name = str(name)
    repository, at, revision = _PREFIX.sub("", name, count=1).partition("@")
    is_path = not _PREFIX.match(name) and (Path(name).exists() or name.endswith(_FILES))
    form = _OLD_REPOSITORY if is_text and "/" not in repository else _REPOSITORY
    if is_path or not form.fullmatch(repository) or (at and not revision):
        return Found(Path(name), name)
    revision = revision or constants.DEFAULT_REVISION
    try:
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=list(only), ignore_patterns=["*/*"], library_name="vl_absvit",
            **hub,
        )  # fmt: skip
    except Exception as error:  # besides the hub's own, whatever the network's libraries raise
        reason = _reason(error, repository, revision)
        raise InputError(f"{option} {name}: no such folder, and not to be had by that name: {reason}") from error
    return Found(Path(folder), name_of(folder))


def name_of(path: str | Path) -> str:
    """A folder's name in results: the repository with its commit for a folder in the hub's cache, else the path."""
    parts = Path(path).parts[-3:]
    if len(parts) == 3 and parts[0].startswith("models--") and parts[1] == "snapshots":
        return f"{parts[0].removeprefix('models--').replace('--', '/')}@{parts[2]}"
    return str(path)


def _reason(error: Exception, repository: str, revision: str) -> str:
    where = f"{constants.ENDPOINT}/{repository}"
    if isinstance(error, GatedRepoError):
        return f"the owner of {where} has not granted access"
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no {where}, or it is private and the login is missing (hf auth login, or HF_TOKEN)"
    if isinstance(error, RevisionNotFoundError):
        return f"{where} has no revision {revision}"
    if isinstance(error, LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE:
        cache = constants.HF_HUB_CACHE
        return f"revision {revision} of {repository} is not in the cache {cache}, and HF_HUB_OFFLINE forbids to ask"
    return f"{where}, revision {revision}: {one_line(error)[:300]}"


def upload(
    files: Mapping[str, Path | bytes],
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload a vl_absvit checkpoint",
) -> str:
    """Put files into a repository in one commit; the repository and the branch are made where there are none.

    Args:
        files: files or contents by their names there; what else is there stays.
        private: whether a new repository is seen by its owners only.
        revision: branch; None is the main one.

    Returns:
        What ``find`` finds the commit by, ``lab/absvit-vqa@0a1b...``.

    Raises:
        ConfigError: that is no name of a repository.
        InputError: the hub refuses, or cannot be reached; or a private upload would go to a public repository.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(f"expected the name of a repository, such as lab/absvit-vqa, got {repository!r}")
    api = HfApi(library_name="vl_absvit")
    try:
        api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.repo_info(repository).private:
            raise InputError(f"{constants.ENDPOINT}/{repository} is public; nothing was uploaded")
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        commit = api.create_commit(repository, operations, commit_message=message, revision=revision)
    except InputError:
        raise
    except Exception as error:  # besides the hub's own, whatever the network's libraries raise
        raise InputError(f"cannot upload to {constants.ENDPOINT}/{repository}: {_refusal(error)}") from error
    return f"{repository}@{commit.oid}"


def _refusal(error: Exception) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids it"
    code = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if code in (401, 403):
        return f"not allowed ({code}); log in by hf auth login, or set HF_TOKEN to one that may write there"
    return one_line(error)[:300]
