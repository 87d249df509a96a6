"""What is fetched, from where, and how often."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download, scan_cache_dir

from convert.errors import Failure, UsageFailure
from convert.source import Hub, fetch, fetch_small, list_source, missing_bytes
from tests.hub.repo import sha256
from tests.hub.server import Fault, HubServer
from tests.source.model import CONFIG, FILES, INDEX, MODEL, NEEDED, SHARDS, WEIGHTS, assert_right, blob, parts


def test_one_format_of_six_is_downloaded(server: HubServer, hub: Hub) -> None:
    listing = list_source(MODEL, hub=hub)
    assert listing.commit == server.repos[MODEL].refs["main"]
    assert_right(fetch(listing, hub=hub), NEEDED)
    asked = [exchange.path.rpartition("/")[2] for exchange in server.log if "/resolve/" in exchange.path]
    assert sorted(asked) == sorted(NEEDED)


def test_a_model_can_be_refused_before_its_weights(server: HubServer, hub: Hub) -> None:
    listing = list_source(MODEL, hub=hub)
    small = fetch_small(listing, hub=hub)
    assert small.pending.keys() == {"model.safetensors"}
    assert small.pending["model.safetensors"].sha256 == sha256(WEIGHTS)
    assert missing_bytes(listing, small.pending, hub=hub) == len(WEIGHTS)
    assert not server.bodies("model.safetensors")


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_are_those_that_the_index_names(server: HubServer, hub: Hub, suffix: str) -> None:
    def named(name: str) -> str:
        return (
            name.replace("model", "pytorch_model").replace("safetensors", "bin") if suffix == "bin" else name
        )

    index = INDEX.decode().replace("model-", named("model-")).replace(".safetensors", f".{suffix}").encode()
    needed = {named(name): content for name, content in SHARDS.items()} | {"config.json": CONFIG}
    needed[named("model.safetensors.index.json")] = index
    server.add(MODEL, {**needed, named("model-00003-of-00003.safetensors"): b"stray"})
    assert_right(fetch(list_source(MODEL, hub=hub), hub=hub), needed)


def test_a_second_run_asks_once_and_reads_nothing(server: HubServer, hub: Hub) -> None:
    first = fetch(list_source(MODEL, hub=hub), hub=hub)
    server.log.clear()
    os.chmod(blob(hub, "model.safetensors", WEIGHTS).parent.parent, 0o700)  # noqa: PTH101
    second = fetch(list_source(MODEL, hub=hub), hub=hub)
    assert second == first
    assert [exchange.path for exchange in server.log] == [f"/api/models/{MODEL}/revision/main"]


def test_a_commit_needs_no_question_the_second_time(server: HubServer, hub: Hub) -> None:
    commit = server.repos[MODEL].refs["main"]
    fetch(list_source(MODEL, commit, hub=hub), hub=hub)
    server.log.clear()
    assert_right(fetch(list_source(MODEL, commit, hub=hub), hub=hub), NEEDED)
    assert not server.log


def test_a_moved_branch_brings_only_what_changed(server: HubServer, hub: Hub) -> None:
    fetch(list_source(MODEL, hub=hub), hub=hub)
    server.repos[MODEL].commit({**FILES, "config.json": b"{}"})
    server.log.clear()
    assert_right(fetch(list_source(MODEL, hub=hub), hub=hub), {**NEEDED, "config.json": b"{}"})
    assert [exchange.path.rpartition("/")[2] for exchange in server.log] == ["main", "config.json"]


def test_the_hub_client_and_we_share_a_cache(server: HubServer, hub: Hub) -> None:
    commit = server.repos[MODEL].refs["main"]
    theirs = hf_hub_download(
        MODEL, "model.safetensors", endpoint=server.endpoint, cache_dir=hub.cache, token=False
    )
    server.log.clear()
    pinned = fetch(list_source(MODEL, hub=hub), hub=hub)
    assert_right(pinned, NEEDED)
    assert not server.bodies("model.safetensors")
    assert pinned.folder == Path(theirs).parent
    ours = hf_hub_download(
        MODEL, "vocab.json", revision=commit, cache_dir=hub.cache, local_files_only=True, token=False
    )
    assert Path(ours).read_bytes() == NEEDED["vocab.json"]
    report = scan_cache_dir(hub.cache)
    assert not report.warnings
    assert [repo.repo_id for repo in report.repos] == [MODEL]


def test_a_damaged_blob_of_another_tool_is_replaced(hub: Hub) -> None:
    path = blob(hub, "model.safetensors", WEIGHTS)
    path.parent.mkdir(parents=True)
    path.write_bytes(WEIGHTS[:-1] + b"!")
    assert_right(fetch(list_source(MODEL, hub=hub), hub=hub), NEEDED)


def test_a_blob_that_changed_since_is_noticed(server: HubServer, hub: Hub) -> None:
    fetch(list_source(MODEL, hub=hub), hub=hub)
    blob(hub, "model.safetensors", WEIGHTS).write_bytes(WEIGHTS[:-1] + b"!")
    assert_right(fetch(list_source(MODEL, hub=hub), hub=hub), NEEDED)
    assert len(server.bodies("model.safetensors")) == 2


def test_a_cache_that_can_only_be_read_serves(hub: Hub) -> None:
    fetch(list_source(MODEL, hub=hub), hub=hub)
    notes = replace(hub, notes=Path("/proc/none"))
    folders = [path for path in [hub.cache, *hub.cache.rglob("*")] if path.is_dir() and not path.is_symlink()]
    for folder in folders:
        folder.chmod(0o500)
    try:
        assert_right(fetch(list_source(MODEL, hub=notes), hub=notes), NEEDED)
    finally:
        for folder in folders:
            folder.chmod(0o700)


def test_offline_serves_what_was_fetched(server: HubServer, hub: Hub, offline: Hub) -> None:
    online = fetch(list_source(MODEL, hub=hub), hub=hub)
    server.log.clear()
    assert fetch(list_source(MODEL, hub=offline), hub=offline) == online
    assert fetch(list_source(MODEL, str(online.commit), hub=offline), hub=offline) == online
    assert not server.log


def test_offline_serves_what_another_tool_fetched(server: HubServer, hub: Hub, offline: Hub) -> None:
    for name in ("config.json", "model.safetensors"):
        hf_hub_download(MODEL, name, endpoint=server.endpoint, cache_dir=hub.cache, token=False)
    listing = list_source(MODEL, hub=offline)
    assert_right(fetch(listing, hub=offline), {"config.json": CONFIG, "model.safetensors": WEIGHTS})


@pytest.mark.parametrize("missing", ["everything", "weights", "a good copy"])
def test_offline_says_what_is_missing(hub: Hub, offline: Hub, missing: str) -> None:
    if missing == "weights":
        fetch_small(list_source(MODEL, hub=hub), hub=hub)
    if missing == "a good copy":
        fetch(list_source(MODEL, hub=hub), hub=hub)
        blob(hub, "model.safetensors", WEIGHTS).write_bytes(bytes(len(WEIGHTS)))
    with pytest.raises(Failure, match=r"offline|damaged") as caught:
        fetch(list_source(MODEL, hub=offline), hub=offline)
    assert "HF_HUB_OFFLINE" in caught.value.hint


def test_the_shell_says_where_the_hub_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_ENDPOINT",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Hub.from_environment().cache == tmp_path / "huggingface/hub"
    monkeypatch.setenv("HF_HOME", "$XDG_CACHE_HOME/hf")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub = Hub.from_environment()
    assert (hub.cache, hub.endpoint, hub.is_offline) == (tmp_path / "hf/hub", "http://127.0.0.1:9", True)
    assert not Hub.from_environment(is_offline=False).is_offline


@pytest.mark.parametrize("endpoint", ["huggingface.co", "https://", "ftp://x", "https://[::1", "http://a b"])
def test_an_endpoint_that_is_none(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(UsageFailure, match="HF_ENDPOINT"):
        Hub.from_environment()


def test_a_renamed_repo_is_recorded_under_its_name(server: HubServer, hub: Hub) -> None:
    server.renamed["tiny"] = MODEL
    pinned = fetch(list_source("tiny", hub=hub), hub=hub)
    assert_right(pinned, NEEDED)
    assert pinned.repo == MODEL
    assert pinned.folder.parent.parent.name == "models--tiny"


def test_a_folder_is_read_where_it_lies(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "onnx").mkdir(parents=True)
    for name, content in FILES.items():
        if "original" not in name and "coreml" not in name:
            (folder / name).write_bytes(content)
    pinned = fetch(list_source(str(folder), hub=hub), hub=hub)
    assert_right(pinned, NEEDED)
    assert (pinned.folder, pinned.repo, pinned.commit) == (folder, None, None)
    time.sleep(0.06)  # a file younger than that is hashed again, since its times could not show a change
    fetch(list_source(str(folder), hub=hub), hub=hub)
    (folder / "model.safetensors").write_bytes(WEIGHTS[::-1])
    changed = fetch(list_source(str(folder), hub=hub), hub=hub)
    assert changed.files["model.safetensors"].sha256 == sha256(WEIGHTS[::-1])


def test_orphans_of_killed_downloads_are_swept(hub: Hub) -> None:
    fetch_small(list_source(MODEL, hub=hub), hub=hub)
    of_client = blob(hub, "model.safetensors", WEIGHTS, ".0a1b2c3d.incomplete")
    forgotten = of_client.with_name("ab" * 32 + ".incomplete")
    recent = of_client.with_name("cd" * 32 + ".incomplete")
    for path in (of_client, forgotten, recent):
        path.write_bytes(b"x")
    os.utime(forgotten, (0, 0))
    fetch(list_source(MODEL, hub=hub), hub=hub)
    assert parts(hub) == [recent.name]


def test_a_half_written_ref_is_swept(hub: Hub) -> None:
    refs = hub.cache / "models--acme--tiny/refs"
    refs.mkdir(parents=True)
    for name, age_s in {"main.1-2.tmp": 1000, "main.3-4.tmp": 0}.items():
        (refs / name).touch()
        os.utime(refs / name, (time.time() - age_s,) * 2)
    list_source(MODEL, hub=hub)
    assert sorted(path.name for path in refs.iterdir()) == ["main", "main.3-4.tmp"]


def test_progress_adds_up_whatever_happens(server: HubServer, hub: Hub) -> None:
    from contextlib import contextmanager  # noqa: PLC0415

    told: dict[str, int] = {}
    totals: dict[str, int] = {}

    class Watcher:
        @contextmanager
        def stage(self, label: str, total_bytes: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
            totals[label] = totals.get(label, 0) + total_bytes

            def advance(size_bytes: int) -> None:
                told[label] = told.get(label, 0) + size_bytes

            yield advance

    server.faults += [Fault("flip", "model.safetensors"), Fault("cut", "vocab.json", after_bytes=3)]
    listing = list_source(MODEL, hub=hub)
    fetch(listing, hub=hub, progress=Watcher())
    fetch(listing, hub=hub, progress=Watcher())
    total_bytes = sum(map(len, NEEDED.values()))
    assert told == totals == {"download": total_bytes, "check": total_bytes}
