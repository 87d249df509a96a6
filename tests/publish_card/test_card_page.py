"""The page that travels with a repo: its own files to choose between, and commands for where they are."""

from __future__ import annotations

import html
import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from convert.publish.bundle import Origin
from tests.publish_card.cards import QUANTS

if TYPE_CHECKING:
    from tests.publish_card.cards import Artifacts, Card


def commands(card: Card) -> list[list[str]]:
    """What the page gives to copy, as a shell takes it apart."""
    page = card.made["report.html"].decode()
    found = re.findall(r'<div class="command"[^>]*><code>(.*?)</code>', page, re.DOTALL)
    return [shlex.split(html.unescape(each)) for each in found if each]


def card_of(artifacts: Artifacts, **changes: Any) -> Card:
    """A card whose artifacts' memory nobody measured."""
    found = [artifacts.candidate(target) for target in QUANTS]
    plain = [replace(each, result=each.result.model_copy(update={"memory": None})) for each in found]
    return artifacts.card(*plain, **changes)


def test_it_has_controls_and_the_answer_of_these_files(artifacts: Artifacts) -> None:
    card = card_of(artifacts)
    page = card.made["report.html"].decode()
    assert '<select name="on">' in page
    answer = re.search(r'id="answer">(.*?)</p>', page)
    assert answer
    assert "gguf-" in answer[1]
    assert "Ollama" in answer[1]
    # No other format and no other machine's folders.
    assert {each for each in re.findall(r'data-format="(\w*)"', page) if each} == {"gguf"}
    assert str(card.bundle.candidates[0].folder) not in page


@pytest.mark.parametrize(
    ("origin", "begins"),
    [
        (Origin(), ["hf", "download", "someone/tiny-GGUF"]),
        (Origin("registry", "ghcr.io/a/tiny", "latest"), ["oras", "pull", "ghcr.io/a/tiny:latest"]),
        (Origin("folder"), ["(echo", "FROM"]),
    ],
    ids=str,
)
def test_commands_are_right_for_where_it_was_published(
    artifacts: Artifacts, origin: Origin, begins: list[str]
) -> None:
    found = commands(card_of(artifacts, origin=origin))
    assert found[0][: len(begins)] == begins
    assert any(each[:3] == ["llama-cli", "-m", "tiny-GGUF/tiny-qwen-Q8_0.gguf"] for each in found)
    assert not any("modelwright" in each or "artifacts/" in " ".join(each) for each in found)
