"""README and docs: every command that they print is one that its program takes, every link and every file is there."""

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from tests.run_script import ROOT, run_script
from vl_absvit import cli
from vl_absvit.__main__ import COMMANDS

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = {"python", "accelerate", "torchrun", "bash", "pip", "source", "python3", "vl-absvit"}
OURS = {name for group in COMMANDS.values() for name in group} | {"--help", "--version"}
TAKE_CONFIGS_TOO = {"plan", "fit-decoders", "train"}  # what these do not know themselves is a config's


class Parsed(Exception):
    """A program has understood its command line, and would now begin."""


def blocks(document: Path, language: str = "") -> list[str]:
    """The fenced code of a language, or of none."""
    pieces = re.findall(r"^ *```(\w*)\n(.*?)^ *```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [code for name, code in pieces if name == language]


def commands(document: Path) -> Iterator[list[str]]:
    """The words of every command: of fenced code, and of running text where it calls one of our programs."""
    text = "\n".join(block for block in blocks(document) if not block.startswith("vl_absvit/"))
    lines = text.replace("\\\n", " ").splitlines()
    ours = r"`((?:(?:python|bash) (?:scripts|data_prep)/|vl-absvit )[^`]*)`"
    lines += re.findall(ours, document.read_text(encoding="utf-8"))
    for line in lines:
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            yield [word for word in words[:end] if not re.match(r"[A-Z_]+=", word)]
            words = words[end + 1 :]


def known_arguments(self, args=None, namespace=None):
    """``parse_known_args`` of a program's own parser, which then stops; parsers of subcommands are given words."""
    found, rest = super(cli.OptionParser, self).parse_known_args(args, namespace)
    name = Path(sys.argv[0]).stem.removeprefix("vl-absvit ").replace("_", "-")
    if args is not None or name in TAKE_CONFIGS_TOO:
        return found, rest
    raise Parsed(f"does not know {rest}" if rest else "")


def check_program(words: list[str], folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Have a program read its command line in a folder with our configs and nothing else."""
    place = next(
        place for place, word in enumerate(words) if word.endswith(".py") or word in ("vl-absvit", "vl_absvit")
    )
    program = words[place].replace("vl_absvit", "vl-absvit")
    instantiate = ArgumentParser.instantiate

    def read_config(parser, *arguments, **options):
        instantiate(parser, *arguments, **options)
        raise Parsed("")

    with patch.context() as inner:
        inner.chdir(folder)
        inner.setattr(cli.OptionParser, "parse_known_args", known_arguments, raising=False)
        inner.setattr(ArgumentParser, "instantiate", read_config)
        with pytest.raises(Parsed, match="^$"):
            run_script(program, *words[place + 1 :])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_command_is_one_that_its_program_takes(document, tmp_path, monkeypatch):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for words in {tuple(words) for words in commands(document)}:
        assert words[0] in PROGRAMS, words
        files = [word for word in words if re.fullmatch(r"(scripts|data_prep|configs)/\S+\.(py|sh|yaml)", word)]
        assert [file for file in files if not (ROOT / file).is_file()] == [], words
        if words[0] == "pip":
            named = re.fullmatch(r"\.(?:\[(\w+)\])?", words[-1])
            assert named and named[1] in {None, *extras}, words
        if words[0] == "vl-absvit":
            assert words[1] in OURS, words
        if any(word.endswith(".py") for word in files) or "vl_absvit" in words or words[0] == "vl-absvit" and words[2:]:
            check_program(list(words), tmp_path, monkeypatch)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_link_leads_to_a_file(document):
    links = re.findall(r"\]\(([^)#\s]+)\)", document.read_text(encoding="utf-8"))
    inside = [link for link in links if not link.startswith("http")]
    assert [link for link in inside if not (document.parent / link).exists()] == []


def anchors(document: Path) -> set[str]:
    """What links may name behind ``#``: the headings of a page, as GitHub writes them."""
    text = re.sub(r"^ *```.*?^ *```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_link_into_a_page_leads_to_one_of_its_headings(document):
    links = re.findall(r"\]\((?!http)([^)#\s]*)#([^)\s]+)\)", document.read_text(encoding="utf-8"))
    pages = {page: document.parent / page if page else document for page, _ in links}
    assert [f"{page}#{anchor}" for page, anchor in links if anchor not in anchors(pages[page])] == []


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=lambda document: document.name)
def test_no_page_has_two_versions_of_a_line(document):
    assert not re.search(r"^(<{7}|={7}$|>{7})", document.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_file_that_is_named_is_there(document):
    named = r"`(?:[^`\n]* )?((?:vl_absvit|tests|scripts|data_prep|configs|benchmarks|docs)/[\w./]*\.\w+)[`: ]"
    files = set(re.findall(named, document.read_text(encoding="utf-8")))
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_the_first_lines_of_python_run_as_they_stand(capsys):
    first = blocks(ROOT / "README.md", "python")[0]
    exec(compile(first, "README.md", "exec"), {})
    printed = re.findall(r"Size\(\[(.*?)\]\)", capsys.readouterr().out)
    promised = re.findall(r"\((\d[\d, ]*)\)", first.rsplit("#", 1)[1])
    assert printed == promised and len(printed) == 3


def test_all_other_python_can_be_compiled():
    for document in DOCUMENTS:
        for block in blocks(document, "python"):
            compile(block, document.name, "exec")


def test_every_file_of_the_layout_is_there():
    (tree,) = (block for block in blocks(ROOT / "docs/layout.md") if block.startswith("vl_absvit/"))
    folders: list[str] = []
    missing = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.match(r"\s*((?:[\w.*/]+(?:, )?)+)", line)[1].rstrip(", ").split(", ")
        if depth > len(folders):
            continue  # a remark that goes on
        folders = folders[:depth]
        missing += [name for name in names if not list(ROOT.glob("".join(folders) + name.rstrip("/")))]
        if names[-1].endswith("/"):
            folders.append(names[-1])
    assert missing == []


def test_no_document_holds_the_marks_of_an_unfinished_merge():
    for document in [*DOCUMENTS, ROOT / "CHANGELOG.md"]:
        assert not re.search(r"^(<{7}|={7}$|>{7})", document.read_text(encoding="utf-8"), re.MULTILINE), document
