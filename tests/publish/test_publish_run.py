"""`run`, for real: converted, judged, published; and what its processes and files know of the token."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import pytest

from convert.cli import app
from convert.errors import Exit
from tests.hub.server import Fault, HubServer
from tests.publish.conftest import TOKEN
from tests.verify import planting

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE, REPO = "acme/Planted", "ann/Planted-GGUF"
ROOT = Path(__file__).parents[2]
RECIPE = f"""\
model: {SOURCE}
targets: {{gguf: {{quants: [Q8_0]}}}}
verify: {{scenarios: [pack.yaml], tokens: 256, gates: {{smoke_drop: null, top1: TOP1}}}}
publish: {{}}
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = planting.make_source(tmp_path_factory.mktemp("planted") / "source")
    return {path.name: path.read_bytes() for path in folder.iterdir()} | {"README.md": b"# Planted\n"}


@pytest.fixture
def server(source: dict[str, bytes]) -> Iterator[HubServer]:
    with HubServer() as server:
        server.users = {TOKEN: "ann"}
        server.add(SOURCE, source)
        yield server
    huggingface_hub.close_session()


@pytest.fixture
def home(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    planting.write_pack(tmp_path / "pack.yaml")
    write_recipe(tmp_path, "0.5")
    return tmp_path


def write_recipe(home: Path, top1: str) -> None:
    (home / "small.yaml").write_text(RECIPE.replace("TOP1", top1), encoding="utf-8")


@pytest.mark.slow
def test_from_a_recipe_to_the_hub(
    home: Path,
    server: HubServer,
    children: list[dict[str, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert app.run(["run", "small.yaml", "--json"]) == Exit.DONE
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["report"]["passed"]
    assert [artifact["status"] for artifact in told["converted"]["artifacts"]] == ["built"]
    (repo,) = told["repos"]
    assert repo["revision"] == server.repos[REPO].refs["main"]
    stands = server.repos[REPO].commits[repo["revision"]]
    assert "Planted-Q8_0.gguf" in stands
    assert children
    assert not any(TOKEN in value for environment in children for value in environment.values())
    assert TOKEN not in out + err
    # Nothing that is shipped tells of who published it, or where it lay.
    for secret in (TOKEN, str(home)):
        told = [path for path, content in stands.items() if secret.encode() in content]
        assert not told, secret
    for path in home.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    # What is up to date is neither built nor published again.
    assert app.run(["run", "small.yaml"]) == Exit.DONE
    out, _ = capsys.readouterr()
    assert "everything is up to date" in out
    assert TOKEN not in out


@pytest.mark.slow
def test_what_fails_a_gate_is_kept_and_not_published(
    home: Path, server: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recipe(home, "1.0")
    assert app.run(["run", "small.yaml"]) == Exit.GATE_FAILED
    out, err = capsys.readouterr()
    assert "FAILED" in out
    assert "error: gguf-Q8_0: top1:" in err
    assert set(server.repos) == {SOURCE}
    assert (home / "artifacts" / "small" / "gguf-Q8_0" / "manifest.json").is_file()
    (home / "small.yaml").write_text(
        (home / "small.yaml")
        .read_text()
        .replace("publish: {}", "publish: {waive: [{gate: top1, reason: it is noise}]}")
    )
    assert app.run(["publish", "small.yaml"]) == Exit.DONE
    assert b"it is noise" in server.repos[REPO].commits[server.repos[REPO].refs["main"]]["README.md"]


@pytest.mark.slow
def test_interrupted_it_ends_at_once_and_goes_on_where_it_was(
    home: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "small.yaml").write_text(
        (home / "small.yaml")
        .read_text()
        .replace("publish: {}", "publish: {waive: [{gate: top1, reason: noise}]}")
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-m", "convert.cli"]
    for words in (["convert", "small.yaml"], ["verify", "small.yaml"]):
        subprocess.run([*command, *words], check=True, capture_output=True)
    server.faults.append(Fault("slow-upload", "/lfs/", times=100, pause_s=0.2))
    with subprocess.Popen([*command, "publish", "small.yaml"], stderr=subprocess.PIPE, text=True) as process:
        deadline_s = time.monotonic() + 60
        while not any(exchange.method == "PUT" for exchange in server.log):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        began_s = time.monotonic()
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - began_s < 20  # all of it would take longer
    assert process.returncode == Exit.INTERRUPTED
    assert "interrupted" in err
    assert TOKEN not in err
    assert len(server.repos[REPO].history()) == 1
    server.faults.clear()
    subprocess.run([*command, "publish", "small.yaml"], check=True, capture_output=True)
    assert len(server.repos[REPO].history()) == 2
    shutil.rmtree(home / "artifacts")
