"""Documents: what is generated is up to date, links lead somewhere, and code blocks are what they seem."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

import click
import pytest
import yaml

from convert import load_recipe
from convert.cli.app import program
from tests.docs.fence import FENCE
from tests.docs.parts import ROOT, documents, written
from verify.scenarios import read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENTS = [path.relative_to(ROOT).as_posix() for path in documents()]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PICTURE = re.compile(r'<img src="([^"]+)"')
TARGETS = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


def _prose(name: str) -> str:
    return FENCE.sub("", (ROOT / name).read_text("utf-8"))


def _blocks(language: str) -> Iterator[Any]:
    for name in DOCUMENTS:
        if name == "CONTRIBUTING.md" and language != "sh":
            continue  # its files are written and used by test_walkthroughs.py
        for number, found in enumerate(FENCE.finditer((ROOT / name).read_text("utf-8"))):
            if found[1] == language:
                yield pytest.param(found[2], id=f"{name}-{number}")


def _anchors(path: Path) -> set[str]:
    """Name the headings of a page as links do."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_generated_parts_are_up_to_date(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert text.count("<!-- part: ") == text.count("<!-- /part -->")
    assert text == written(text), "run `make docs`"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    here = ROOT / name
    for link in [*LINK.findall(_prose(name)), *PICTURE.findall(_prose(name))]:
        if link.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        path = here.parent / file if file else here
        assert path.exists(), link
        assert not anchor or anchor in _anchors(path), link


def test_every_page_can_be_found_from_the_first() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall(_prose("docs/index.md"))}
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages if not page.endswith(".zh.md")} - linked == {"index.md"}


@pytest.mark.parametrize("text", [*_blocks("yaml")])
def test_examples_of_yaml_are_what_they_seem(tmp_path: Path, text: str) -> None:
    found = yaml.safe_load(text)
    file = tmp_path / "example.yaml"
    file.write_text(text, "utf-8")
    if "targets" in found:
        load_recipe(file)
    elif "dialogues" in found:
        read(file)


@pytest.mark.parametrize("text", [*_blocks("sh")])
def test_commands_and_options_in_examples_exist(text: str) -> None:
    makefile = TARGETS.findall((ROOT / "Makefile").read_text("utf-8"))
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        words = words[next((at for at, word in enumerate(words) if "=" not in word), 0) :]
        words = [word.removeprefix(".venv/bin/") for word in words]
        if words[:1] == ["make"]:
            assert next(word for word in words[1:] if "=" not in word) in makefile, line
        elif words[:1] == ["modelwright"]:
            command = program.get_command(click.Context(program), words[1])
            assert command is not None, line
            command.make_context(words[1], words[2:], resilient_parsing=True)


def test_what_is_promised_names_tests_that_there_are() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    named = re.findall(r"`(tests/[^`]+)`", text)
    assert len(named) > 60
    for each in named:
        path, _, name = each.partition("::")
        file = ROOT / path
        assert file.is_dir() if path.endswith("/") else file.is_file(), each
        assert not name or f"\ndef {name}(" in file.read_text("utf-8"), each
    for line in text.splitlines():  # each row of the two tables
        if line.startswith("|") and line.count("|") == 3 and "---" not in line:
            assert "tests/" in line or line in ("| promise | test |", "| defect | test |"), line
