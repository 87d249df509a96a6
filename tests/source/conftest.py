"""A Hub on loopback with one small model, and settings that reach it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest

from convert.source import Hub, RetryLimits
from tests.hub.server import HubServer
from tests.source.model import FILES, MODEL


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as server:
        server.add(MODEL, FILES)
        yield server
    huggingface_hub.close_session()


@pytest.fixture
def hub(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    # Whoever runs the tests may be logged in.
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    retry = RetryLimits(tries=4, first_wait_s=0.01, longest_wait_s=0.05, total_wait_s=2.5, read_timeout_s=20)
    return Hub(server.endpoint, cache=tmp_path / "hub", notes=tmp_path / "notes", retry=retry)


@pytest.fixture
def offline(hub: Hub) -> Hub:
    return replace(hub, is_offline=True)
