"""The artifacts that cards are written for, made once for each process of tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from convert.publish.card.chat import look_at
from tests.publish_card.cards import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convert.publish.card.chat import Chat
    from convert.publish.card.facts import Facts
    from tests.publish_card.cards import Artifacts, Card


@pytest.fixture(scope="session")
def known() -> dict[str, Chat | None]:
    """What each template that was tried came to."""
    return {}


@pytest.fixture(scope="module", autouse=True)  # other folders' tests watch the process that it saves
def tried(known: dict[str, Chat | None]) -> Iterator[Callable[[Facts], Chat | None]]:
    """Try each template once: every card of a chat model starts a process for it."""

    def remembered(facts: Facts) -> Chat | None:
        key = f"{facts.template}{sorted(facts.markup.items())}"
        if key not in known:
            known[key] = look_at(facts)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convert.publish.card.look_at", remembered)
        yield remembered


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Both tiny models in every format."""
    return build(tmp_path_factory.mktemp("card"), "qwen", "gpt2")


@pytest.fixture
def artifacts(built: Artifacts) -> Artifacts:
    """The artifacts, with figures that are the same for each test."""
    return type(built)(built.root)


@pytest.fixture
def card(artifacts: Artifacts) -> Card:
    """Three quants of a chat model."""
    return artifacts.card()
