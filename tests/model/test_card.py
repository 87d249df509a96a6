"""A source's README.md is a stranger's: its front matter is read as text, and anything may stand there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from convert.formats.gguf.header import pack
from convert.formats.gguf.metadata import fields
from convert.model.card import front_matter, license_of
from convert.model.config import Config
from convert.model.families import find_family
from convert.model.source import Model
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path


def read(folder: Path, text: str) -> tuple[dict[str, Any], str]:
    (folder / "README.md").write_text(text, "utf-8")
    return front_matter(folder)


def test_words_stay_words(tmp_path: Path) -> None:
    card, fault = read(tmp_path, "---\nlanguage: [en, no]\nlicense: mit\nversion: 1.10\n---\n# Hello\n")
    assert (card, fault) == ({"language": ["en", "no"], "license": "mit", "version": "1.10"}, "")
    assert license_of(card) == "mit"


def test_a_licence_of_its_own_has_its_own_name() -> None:
    assert license_of({"license": "other", "license_name": "tongyi-qianwen"}) == "tongyi-qianwen"
    assert license_of({"license": ["mit", "apache-2.0"]}) == "mit,apache-2.0"
    assert license_of({}) is None


@pytest.mark.parametrize("text", ["", "# A card without front matter\n", "---\n---\n"])
def test_no_front_matter_is_no_fault(text: str, tmp_path: Path) -> None:
    assert read(tmp_path, text) == ({}, "")


@pytest.mark.parametrize(
    "text", ["---\n{\n---\n", "---\n- a\n- b\n---\n", "---\na: *b\n---\n", "---\n" + "[" * 5000 + "\n---\n"]
)
def test_what_is_wrong_is_said_and_not_raised(text: str, tmp_path: Path) -> None:
    card, fault = read(tmp_path, text)
    assert card == {}
    assert fault.startswith("README.md's front matter is no ")
    assert "\n" not in fault


STRANGE: list[dict[str, Any]] = [
    {"tags": [{"a": "b"}, "c"]},
    {"tags": []},
    {"license": {"name": "mit"}},
    {"language": [["en"]], "license": ["mit"]},
    {"base_model": [{"name": {"deep": "er"}}], "datasets": [{"repo_url": ["x"]}]},
    {"base_model": [3, None]},
    {"model_name": ["a", "list"]},
]


@pytest.mark.parametrize("card", STRANGE)
def test_a_strange_card_never_breaks_a_file(card: dict[str, Any], tmp_path: Path) -> None:
    config = Config({**tiny.CONFIGS["llama"], "model_type": "llama"})
    decoder = find_family(config).describe(config)
    model = Model("Tiny", "owner/tiny", decoder, None, tmp_path, card=card)  # type: ignore[arg-type]
    assert pack(fields(model, 7, (decoder.parameter_count, 0, 0, 0)), [])
