"""From a recipe to another place than the Hub, and back: signed, pulled, and found as it was."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import fsspec  # type: ignore[import-untyped]
import pytest

from convert.cli import app
from convert.errors import Exit
from convert.formats import load_recipe
from convert.publish.provenance.key import KEY_VARIABLE
from tests import tiny
from tests.destinations.bundles import tree
from tests.destinations.pushing import log_in
from tests.destinations.registry_server import PASSWORD, TOKEN, RegistryServer
from tests.provenance.publication import Keys, make_keys
from tests.publish.artifacts import GOOD, result, write_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RECIPE = "model: ./source\ntargets: {gguf: {quants: [Q8_0, F16]}}\n"
NAME = "recipe-GGUF"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose artifacts stand, and a report in which they passed."""
    home = tmp_path_factory.mktemp("home")
    tiny.make(home / "source", tiny.Recipe("qwen", {"num_hidden_layers": 1}))
    ranks = "".join(f"{base64.b64encode(bytes([rank])).decode()} {rank}\n" for rank in range(256))
    (home / "source" / "qwen.tiktoken").write_text(ranks)
    (home / "recipe.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(home)
        assert app.run(["convert", "recipe.yaml", "--quiet"]) == Exit.DONE
        recipe, root = load_recipe("recipe.yaml"), home / "artifacts"
        folders = [root / "recipe" / target for target in ("gguf-Q8_0", "gguf-F16")]
        write_report(recipe, root, *(result(recipe, folder, GOOD) for folder in folders))
    return home


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    keys = make_keys(tmp_path)
    monkeypatch.setenv(KEY_VARIABLE, str(keys.private))
    return keys


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryServer]:
    with RegistryServer("bearer") as server:
        log_in(monkeypatch, server.host)
        yield server


@pytest.fixture
def run(
    home: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Run `modelwright` there; what it answers, having made sure that it tells no secret."""
    monkeypatch.chdir(home)

    def run_line(*words: object) -> Any:
        code = app.run([*map(str, words), "--json"])
        out, err = capsys.readouterr()
        assert code == 0, err
        for secret in (PASSWORD, TOKEN, keys.private.read_text().splitlines()[1]):
            assert secret not in out + err
        return json.loads(out)

    return run_line


def test_published_and_found_again_in_every_place(
    run: Callable[..., Any], home: Path, keys: Keys, registry: RegistryServer, tmp_path: Path
) -> None:
    store = f"memory://{tmp_path.name}"
    stood: list[dict[str, bytes]] = []
    for place in (tmp_path / "shelf", store, f"oci://{registry.host}/models"):
        (dry,) = run("publish", "recipe.yaml", "--to", place, "--dry-run")["repos"]
        assert all(file["is_missing"] for file in dry["files"])
        (told,) = run("publish", "recipe.yaml", "--to", place)["repos"]
        assert told["is_new"]
        (again,) = run("publish", "recipe.yaml", "--to", place)["repos"]
        assert (again["is_new"], again["sent_bytes"]) == (False, 0)
        stood.append(found(tmp_path / "shelf", store, registry, str(place), str(told["revision"])))
    fetching = (
        b"Run these commands in the folder that holds this one",
        b"fsspec.core.url_to_fs",
        b"oras pull",
    )
    for number, files in enumerate(stood):
        card = files["README.md"]
        assert [each in card for each in (*fetching, b"hf download")] == [
            *(each == number for each in range(3)),
            False,
        ]
        assert everywhere(files) == everywhere(stood[-1])
        folder = tmp_path / f"pulled{number}"
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        vouched = run("inspect", folder, "--verify-signature", "--key", keys.public)
        assert vouched["targets"] == ["gguf-F16", "gguf-Q8_0"]
        assert vouched["absent"] == []
        assert not any(str(home).encode() in data for data in files.values())


def everywhere(files: dict[str, bytes]) -> dict[str, bytes]:
    """What is the same in every place: card and page have their commands, and the release names both."""
    own = {"published.json", "README.md", "report.html", "model.sig"}
    return {path: data for path, data in files.items() if path not in own}


def found(shelf: Path, store: str, registry: RegistryServer, place: str, revision: str) -> dict[str, bytes]:
    """What a person would have on disk after getting it from there."""
    if place == store:
        files, base = fsspec.filesystem("memory"), f"/{store.partition('://')[2]}/{NAME}/{revision}"
        return {path.removeprefix(f"{base}/"): files.cat_file(path) for path in files.find(base)}
    if place.startswith("oci:"):
        pulled = registry.pulled(f"models/{NAME.lower()}")
        assert pulled
        return pulled
    return tree(shelf / NAME)
