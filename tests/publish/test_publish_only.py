"""`publish --only`: what else of the recipe stands there is described still, or named as not looked at."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import fsspec  # type: ignore[import-untyped]
import pytest

from convert.publish.destinations.hub import HubDestination
from convert.publish.provenance.key import KEY_VARIABLE
from tests.destinations.registry_server import RegistryServer
from tests.provenance.publication import Keys, make_keys
from tests.publish.commanding import PUBLISH, RECIPE, REPO, SOURCE, TARGETS, report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hub.server import HubServer
    from tests.publish.commanding import Run

FIRST, SECOND = TARGETS
NAME = REPO.partition("/")[2]


def standing(server: HubServer, name: str = REPO) -> dict[str, bytes]:
    repo = server.repos[name]
    return repo.commits[repo.refs["main"]]


def listed(files: dict[str, bytes]) -> set[str]:
    """The models that the card has a row for."""
    card = files["README.md"].decode()
    return {path for path in files if path.endswith(".gguf") and f"[`{path}`]({path})" in card}


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    made = make_keys(tmp_path)
    monkeypatch.setenv(KEY_VARIABLE, str(made.private))
    return made


def gone(home: Path, target: str) -> None:
    shutil.rmtree(home / "artifacts" / "recipe" / target)


def test_what_stands_there_already_is_described_still(run: Run, server: HubServer) -> None:
    assert run("publish", "recipe.yaml").code == 0
    before = standing(server)
    ran = run("publish", "recipe.yaml", "--only", SECOND)
    assert (ran.code, "already there" in ran.out) == (0, True)
    assert standing(server) == before
    assert len(server.repos[REPO].history()) == 2


@pytest.mark.slow
def test_one_after_the_other_is_as_all_at_once(run: Run, server: HubServer) -> None:
    server.page_size = 3  # of what the Hub lists
    assert run("publish", "recipe.yaml", "--only", FIRST).code == 0
    assert listed(standing(server)) == {"Tiny-0.1B-Q8_0.gguf"}
    assert run("publish", "recipe.yaml", "--only", SECOND).code == 0
    step_by_step = standing(server)
    assert listed(step_by_step) == {"Tiny-0.1B-Q8_0.gguf", "Tiny-0.1B-F16.gguf"}
    assert len(server.repos[REPO].history()) == 3
    del server.repos[REPO]
    assert run("publish", "recipe.yaml").code == 0
    assert standing(server) == step_by_step


def test_what_does_not_stand_there_is_not_added(run: Run, home: Path, server: HubServer) -> None:
    report(home, top1=0.5)
    ran = run("publish", "recipe.yaml", "--only", SECOND, "--json")
    assert ran.code == 0
    assert ran.answer["repos"][0]["kept"] == []
    assert listed(standing(server)) == {"Tiny-0.1B-F16.gguf"}
    assert f"{FIRST}/" not in standing(server)["README.md"].decode()


@pytest.mark.parametrize(
    "what", ["gone", *(pytest.param(each, marks=pytest.mark.slow) for each in ("failed", "other"))]
)
def test_what_nobody_here_can_vouch_for_is_named(
    run: Run, home: Path, server: HubServer, keys: Keys, what: str
) -> None:
    assert run("publish", "recipe.yaml").code == 0
    first = standing(server)
    if what == "gone":
        gone(home, FIRST)
        why = "not built yet"
    elif what == "failed":
        report(home, top1=0.5)
        why = "top1"
    else:
        repo = server.repos[REPO]
        changed = {**first, "Tiny-0.1B-Q8_0.gguf": b"by somebody else"}
        repo.refs["main"] = repo.push(changed, repo.refs["main"], "by hand")
        first, why = changed, "the repo's files are not those of the artifact here"
    ran = run("publish", "recipe.yaml", "--only", SECOND)
    assert (ran.code, ran.said) == (0, [])
    (said,) = [line for line in ran.err.splitlines() if line.startswith(f"kept: {FIRST}: ")]
    assert why in said
    now = standing(server)
    assert listed(now) == {"Tiny-0.1B-F16.gguf"}
    assert f"[manifest]({FIRST}/manifest.json)" in now["README.md"].decode()
    assert now["Tiny-0.1B-Q8_0.gguf"] == first["Tiny-0.1B-Q8_0.gguf"]
    # And once more changes nothing.
    history = len(server.repos[REPO].history())
    assert run("publish", "recipe.yaml", "--only", SECOND).code == 0
    assert len(server.repos[REPO].history()) == history
    # Its own provenance vouches for it still, or tells of who changed it.
    pulled = home / "pulled"
    for path, content in now.items():
        (pulled / path).parent.mkdir(parents=True, exist_ok=True)
        (pulled / path).write_bytes(content)
    checked = run("inspect", str(pulled), "--verify-signature", "--key", str(keys.public))
    assert checked.code == (1 if what == "other" else 0), checked.err


def test_what_the_recipe_has_no_more_is_named_too(run: Run, home: Path, server: HubServer) -> None:
    assert run("publish", "recipe.yaml").code == 0
    text = (home / "recipe.yaml").read_text(encoding="utf-8")
    (home / "recipe.yaml").write_text(text.replace("[Q8_0, F16]", "[F16]"), encoding="utf-8")
    report(home, targets=(SECOND,))
    ran = run("publish", "recipe.yaml", "--json")
    assert ran.code == 0
    assert ran.answer["repos"][0]["kept"] == [{"folder": FIRST, "why": "the recipe has no such target"}]
    assert f"[report]({FIRST}/report.json)" in standing(server)["README.md"].decode()


def test_a_folder_that_is_no_targets_is_not_named(run: Run, server: HubServer) -> None:
    assert run("publish", "recipe.yaml").code == 0
    repo = server.repos[REPO]
    strange = ("javascript:alert(1)", "https:/evil.example", "a`b", "notes/gguf-Q2_K", "..")
    documents = ("manifest.json", "provenance.intoto.json")
    theirs = {f"{folder}/{name}": b"{}" for folder in strange for name in documents}
    files = {**standing(server), **theirs, "half/manifest.json": b"{}"}
    repo.refs["main"] = repo.push(files, repo.refs["main"], "somebody else")
    ran = run("publish", "recipe.yaml", "--json")
    assert ran.code == 0
    assert ran.answer["repos"][0]["kept"] == []
    assert standing(server) == files


def test_a_dry_run_tells_what_would_be_kept(run: Run, home: Path) -> None:
    assert run("publish", "recipe.yaml").code == 0
    gone(home, FIRST)
    ran = run("publish", "recipe.yaml", "--only", SECOND, "--dry-run")
    assert (ran.code, ran.said) == (0, [])
    assert f"kept: {FIRST}: " in ran.err
    assert f"[manifest]({FIRST}/manifest.json)" in ran.out


def test_a_dry_run_by_nobody_tells_of_the_part_alone(
    run: Run, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("publish", "recipe.yaml").code == 0
    monkeypatch.delenv("HF_TOKEN")
    before = len(server.log)
    ran = run("publish", "recipe.yaml", "--only", SECOND, "--dry-run")
    assert (ran.code, "was not looked at" in ran.err) == (0, True)
    assert "Tiny-0.1B-F16.gguf" in ran.out
    assert "Tiny-0.1B-Q8_0.gguf" not in ran.out
    assert not [each for each in server.log[before:] if REPO in each.path]


def test_who_is_waived_beside_it_is_told_of_too(run: Run, home: Path) -> None:
    waive = "publish: {waive: [{gate: top1, target: gguf-Q8_0, reason: it is small}]}\n"
    (home / "recipe.yaml").write_text(RECIPE + waive, encoding="utf-8")
    report(home, top1=0.5)
    for target in TARGETS:
        ran = run("publish", "recipe.yaml", "--only", target)
        assert (ran.code, f"waived: {FIRST}: top1: it is small" in ran.err) == (0, True)


def test_who_publishes_the_other_meanwhile_is_not_overlooked(
    run: Run, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent was made for what stood there; should that have changed, it is made anew."""
    assert run("publish", "recipe.yaml", "--only", FIRST).code == 0
    survey = HubDestination.survey

    def late(*given: Any) -> Any:
        repo = server.repos[REPO]
        repo.refs["main"] = repo.push({"a.txt": b"theirs"}, repo.refs["main"], "somebody else")
        return survey(*given)

    monkeypatch.setattr(HubDestination, "survey", late)
    ran = run("publish", "recipe.yaml", "--only", SECOND)
    assert ran.code == 1
    assert "somebody changed it meanwhile, and nothing was published" in ran.err
    assert standing(server) == {"a.txt": b"theirs"}


class Shelf:
    """Each place but the Hub: where it is, and what a person gets there."""

    def __init__(self, kind: str, folder: Path, registry: RegistryServer) -> None:
        self.kind, self._folder, self._registry = kind, folder, registry
        self.address = {
            "folder": str(folder / "shelf"),
            "fsspec": f"memory://{folder.name}",
            "oci": f"oci://{registry.host}/models",
        }[kind]

    @property
    def is_whole(self) -> bool:
        """Whether a release shows its own files and none of those before."""
        return self.kind != "folder"

    @property
    def files(self) -> dict[str, bytes]:
        if self.kind == "oci":
            return self._registry.pulled(f"models/{NAME.lower()}") or {}
        if self.kind == "folder":
            root = self._folder / "shelf" / NAME
            return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        files, base = fsspec.filesystem("memory"), f"/{self._folder.name}/{NAME}"
        base = f"{base}/{json.loads(files.cat_file(f'{base}/published.json'))['version']}"
        return {path.removeprefix(f"{base}/"): files.cat_file(path) for path in files.find(base)}


@pytest.fixture(params=["folder", "fsspec", "oci"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    with RegistryServer() as registry:
        yield Shelf(request.param, tmp_path, registry)


@pytest.mark.slow
def test_elsewhere_what_stands_is_described_still(run: Run, shelf: Shelf) -> None:
    for target in TARGETS:
        assert run("publish", "recipe.yaml", "--to", shelf.address, "--only", target).code == 0
    assert listed(shelf.files) == {"Tiny-0.1B-Q8_0.gguf", "Tiny-0.1B-F16.gguf"}
    again = run("publish", "recipe.yaml", "--to", shelf.address)
    assert (again.code, "already there" in again.out) == (0, True)
    named = again.out.partition(": already")[0]
    assert re.search(r"[0-9a-f]{12}$", named)  # enough of what pins it, and once
    assert len(re.findall(r"[0-9a-f]{12,}", named.removeprefix(shelf.address))) == 1


def test_elsewhere_nothing_vanishes_unasked(run: Run, home: Path, shelf: Shelf) -> None:
    assert run("publish", "recipe.yaml", "--to", shelf.address).code == 0
    before = shelf.files
    gone(home, FIRST)
    ran = run("publish", "recipe.yaml", "--to", shelf.address, "--only", SECOND)
    if not shelf.is_whole:  # but a folder, which keeps what it has, as the Hub does
        assert (ran.code, f"kept: {FIRST}: " in ran.err) == (0, True)
        assert f"[manifest]({FIRST}/manifest.json)" in shelf.files["README.md"].decode()
        return
    assert ran.code == 1
    (error, hint) = ran.said
    assert f"the current release has {FIRST}; the new one would drop it: " in error
    assert "--only" in hint
    assert shelf.files == before


@pytest.mark.slow
def test_what_was_kept_is_described_again_once_it_stands_here(run: Run, home: Path, shelf: Shelf) -> None:
    assert run("publish", "recipe.yaml", "--to", shelf.address).code == 0
    whole, mine = shelf.files, home / "artifacts" / "recipe" / FIRST
    mine.rename(home / "away")
    refused = run("publish", "recipe.yaml", "--to", shelf.address, "--only", SECOND)
    assert refused.code == (1 if shelf.is_whole else 0)
    (home / "away").rename(mine)
    ran = run("publish", "recipe.yaml", "--to", shelf.address, "--only", SECOND)
    assert (ran.code, "kept: " in ran.err) == (0, False)
    assert shelf.files == whole


@pytest.mark.slow
def test_one_of_several_formats_lies_where_it_would_among_the_others(
    run: Run, home: Path, server: HubServer
) -> None:
    targets = "targets: {gguf: {quants: [F16]}, hf: {}}"
    text = f"model: {SOURCE}\n{targets}\n{PUBLISH.replace('-{target}', '')}"
    (home / "recipe.yaml").write_text(text, encoding="utf-8")
    assert run("convert", "recipe.yaml").code == 0
    report(home, targets=("gguf-F16", "hf"))
    for target in ("hf", "gguf"):
        assert run("publish", "recipe.yaml", "--only", target).code == 0
    files = standing(server, "ann/Tiny-0.1B")
    assert {"hf/config.json", "hf/manifest.json", "Tiny-0.1B-F16.gguf"} <= set(files)
    assert "config.json" not in files
    del server.repos["ann/Tiny-0.1B"]
    assert run("publish", "recipe.yaml").code == 0
    assert standing(server, "ann/Tiny-0.1B") == files


@pytest.mark.slow
def test_what_lay_there_alone_is_not_overlooked(run: Run, home: Path, server: HubServer) -> None:
    """At the root, where nothing of it would lie beside another."""

    def targets(given: str, *names: str) -> None:
        text = f"model: {SOURCE}\ntargets: {given}\n{PUBLISH.replace('-{target}', '')}"
        (home / "recipe.yaml").write_text(text, encoding="utf-8")
        assert run("convert", "recipe.yaml").code == 0
        report(home, targets=names)

    store = f"memory://{home.parent.name}"
    targets("{hf: {}}", "hf")
    for to in ([], ["--to", store]):
        assert run("publish", "recipe.yaml", *to).code == 0
    targets("{gguf: {quants: [F16]}, hf: {}}", "gguf-F16", "hf")
    ran = run("publish", "recipe.yaml", "--only", "gguf")
    assert (ran.code, "kept: .: " in ran.err) == (0, True)
    assert "- `.`: [manifest](manifest.json)" in standing(server, "ann/Tiny-0.1B")["README.md"].decode()
    ran = run("publish", "recipe.yaml", "--only", "gguf", "--to", store)
    assert (ran.code, "the new one would drop it" in ran.err) == (1, True)
