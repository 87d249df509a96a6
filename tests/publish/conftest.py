"""A Hub on loopback with two people and a patient client, and somebody signed in."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import huggingface_hub
import huggingface_hub.constants
import pytest

from convert.publish.hub import HubPlace
from convert.publish.session import signed_in
from convert.source import Hub, Patience
from tests.hub.server import HubServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "hf_annsSecretTokenThatNobodyMaySee"


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as server:
        server.users = {TOKEN: "ann", "hf_bob": "bob"}
        yield server
    huggingface_hub.close_session()


@pytest.fixture
def hub(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Settings that reach it, as ann; nobody waits long."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    patience = Patience(tries=4, first_wait_s=0.01, longest_wait_s=0.02, total_wait_s=30.0, read_timeout_s=2)
    return Hub(
        server.endpoint, cache=tmp_path / "hub", notes=tmp_path / "notes", token=TOKEN, patience=patience
    )


@pytest.fixture
def place(hub: Hub) -> Iterator[HubPlace]:
    """The Hub as a destination."""
    with signed_in(hub, answer_s=2) as session:
        yield HubPlace(session)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The environment of every process that is started."""
    seen: list[dict[str, str]] = []
    start: Any = subprocess.Popen.__init__

    def watched(self: Any, *words: Any, **options: Any) -> None:
        given = options.get("env")
        seen.append(dict(os.environ if given is None else given))
        start(self, *words, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", watched)
    return seen
