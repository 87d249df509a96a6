"""A Hub on loopback with two people and a patient client, somebody signed in, and somebody at a terminal."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import huggingface_hub
import huggingface_hub.constants
import pytest

from convert.cli import app
from convert.errors import Exit
from convert.publish.destinations.hub import HubDestination
from convert.source import Hub, RetryLimits
from tests import tiny
from tests.hub.server import HubServer
from tests.publish.commanding import CARD, PUBLISH, RECIPE, SOURCE, Ran, Run, report

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
    retry = RetryLimits(tries=4, first_wait_s=0.01, longest_wait_s=0.02, total_wait_s=30.0, read_timeout_s=20)
    return Hub(server.endpoint, cache=tmp_path / "hub", notes=tmp_path / "notes", token=TOKEN, retry=retry)


@pytest.fixture
def place(hub: Hub) -> Iterator[HubDestination]:
    """The Hub as a destination."""
    with HubDestination(hub, answer_s=20) as place:
        yield place


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


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("source")
    tiny.make(folder, tiny.Recipe("qwen", {"num_hidden_layers": 2}, shards=2))
    ranks = "".join(f"{base64.b64encode(bytes([rank])).decode()} {rank}\n" for rank in range(256))
    (folder / "qwen.tiktoken").write_text(ranks)
    (folder / "generation_config.json").write_text(json.dumps({"chat_format": "chatml"}))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {**files, "README.md": CARD, "LICENSE": b"the licence of the original\n"}


@pytest.fixture(scope="session")
def converted(source: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts, converted for real from the loopback Hub, and a report in which they passed."""
    home = tmp_path_factory.mktemp("converted")
    (home / "recipe.yaml").write_text(RECIPE + PUBLISH, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched, HubServer() as server:
        server.add(SOURCE, source)
        patched.setenv("HF_ENDPOINT", server.endpoint)
        patched.setenv("HOME", str(home / "home"))
        for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):  # a library may have set them by now
            patched.delenv(name, raising=False)
        patched.chdir(home)
        assert app.run(["convert", "recipe.yaml", "--quiet"]) == Exit.DONE
        report(home)
    huggingface_hub.close_session()
    return home


@pytest.fixture
def home(
    converted: Path,
    source: dict[str, bytes],
    server: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A person's own copy, at a terminal; HF_ENDPOINT leads to the loopback Hub, HF_TOKEN says who."""
    server.add(SOURCE, source)
    home = tmp_path / "work"
    shutil.copytree(converted, home, symlinks=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HOME", str(home / "home"))
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:  # noqa: ARG001 - at home
    def run_line(*words: str) -> Ran:
        code = app.run(list(words))
        captured = capsys.readouterr()
        return Ran(int(code), captured.out, captured.err)

    return run_line
