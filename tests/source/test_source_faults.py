"""The Hub's bad days: the right bytes, or one clear Failure."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from convert.errors import Failure, UsageFailure
from convert.source import Hub, RetryLimits, fetch, fetch_small, list_source
from tests.hub.server import Fault, HubServer
from tests.source.model import CONFIG, INDEX, MODEL, NEEDED, SHARDS, WEIGHTS, assert_right, blob, parts

TOKEN = "hf_" + "s3cret" * 5
BODY = "model.safetensors"


def get(hub: Hub, model: str = MODEL) -> None:
    """Fetch everything, and see that it is right."""
    assert_right(fetch(list_source(model, hub=hub), hub=hub), NEEDED)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=500),
        Fault("status", status=503, times=3),
        Fault("status", status=429, headers={"Retry-After": "0"}),
        Fault("status", status=429, headers={"Retry-After": "Sat, 21 Nov 2020 06:00:00 GMT"}),
        Fault("status", status=429, headers={"RateLimit": '"api";r=0;t=0'}),
        Fault("reset"),
        Fault("reset", after_bytes=100_000, times=3),
        Fault("cut", after_bytes=100_000, times=3),
        Fault("cut", after_bytes=0),
        Fault("slow", pause_s=0.005),
        Fault("flip", after_bytes=200_000),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.after_bytes}-{fault.times}",
)
def test_what_passes_is_waited_for(server: HubServer, hub: Hub, fault: Fault) -> None:
    server.faults.append(replace(fault, path=BODY))
    get(hub)
    assert not parts(hub)


def test_a_silent_server_is_asked_again(server: HubServer, hub: Hub) -> None:
    server.faults.append(Fault("stall", BODY, after_bytes=100_000, pause_s=1.0))
    get(replace(hub, retry=replace(hub.retry, read_timeout_s=0.5)))
    assert server.bodies(BODY)[0].sent_bytes == 100_000
    assert len(server.bodies(BODY)) > 1
    assert not parts(hub)


def test_a_cut_body_continues_where_it_stopped(server: HubServer, hub: Hub) -> None:
    server.faults.append(Fault("cut", BODY, after_bytes=100_000))
    get(hub)
    first, second = server.bodies(BODY)
    assert (first.sent_bytes, second.range) == (100_000, "bytes=100000-")
    assert (second.status, second.sent_bytes) == (206, len(WEIGHTS) - 100_000)


def test_a_server_that_cannot_resume_sends_all_again(server: HubServer, hub: Hub) -> None:
    server.faults += [Fault("cut", BODY, after_bytes=100_000), Fault("no-range", BODY)]
    get(hub)
    assert server.bodies(BODY)[-1].sent_bytes == len(WEIGHTS)


def test_the_list_is_asked_for_again(server: HubServer, hub: Hub) -> None:
    server.faults += [Fault("status", "/api/", status=502), Fault("reset", "/api/")]
    get(hub)


@pytest.mark.parametrize("kind", ["status", "reset", "cut"])
def test_what_does_not_pass_is_said_and_kept(server: HubServer, hub: Hub, kind: str) -> None:
    server.faults.append(Fault(kind, BODY, times=99, after_bytes=0 if kind == "status" else 1000))
    with pytest.raises(Failure, match=r"acme/tiny/model\.safetensors: .*gave up after 4 tries") as caught:
        get(hub)
    assert "kept" in caught.value.hint
    server.faults.clear()
    get(hub)


def test_a_long_wait_is_not_waited(server: HubServer, hub: Hub) -> None:
    server.faults.append(Fault("status", status=429, headers={"Retry-After": "3600"}, times=99))
    began_s = time.monotonic()
    with pytest.raises(Failure, match=r"answered 429 \(too many requests\), and asks to wait 60 min"):
        get(hub)
    assert time.monotonic() - began_s < 60


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("status", status=403), r"access refused \(403\)"),
        (Fault("status", status=401), r"access refused \(401\)"),
        (Fault("status", status=404, headers={"X-Error-Code": "EntryNotFound"}), "listed, but not there"),
        (Fault("status", status=418), "answered 418"),
        (Fault("flip", times=2), "downloaded twice, and its digest is not the listed one"),
        (Fault("size"), "lists 400000 bytes and sends 12345"),
        (Fault("etag", headers={"ETag": '"../../evil"'}), "is not a digest"),
        (Fault("etag", headers={"ETag": f'"{"ab" * 32}"'}), "another file than it lists"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else None,
)
def test_what_is_wrong_is_refused(server: HubServer, hub: Hub, fault: Fault, message: str) -> None:
    server.faults.append(replace(fault, path=BODY))
    with pytest.raises(Failure, match=message) as caught:
        get(hub)
    assert caught.value.hint
    assert BODY in caught.value.message
    assert not list(hub.cache.rglob("model.safetensors"))


LIES: dict[str, dict[str, object]] = {
    "size": {"size": 5},
    "lfs size": {"lfs": {"sha256": "ab" * 32, "size": 5, "pointerSize": 1}},
    "negative": {"size": -1, "lfs": None},
    "no size": {"size": None, "lfs": None},
    "text size": {"size": "5", "lfs": None},
    "not hexadecimal": {"lfs": {"sha256": "../../evil", "size": len(WEIGHTS), "pointerSize": 1}},
    "no digest": {"blobId": None, "lfs": None},
    "parent": {"rfilename": "../model.safetensors"},
    "absolute": {"rfilename": "/model.safetensors"},
    "deep": {"rfilename": "a/../../model.safetensors"},
    "backslash": {"rfilename": "..\\model.safetensors"},
    "drive": {"rfilename": "C:model.safetensors"},
    "share": {"rfilename": "\\\\host\\share\\x"},
    "null": {"rfilename": "a\0b"},
    "escape": {"rfilename": "LICENSE\x1b[2J"},
    "empty": {"rfilename": ""},
    "number": {"rfilename": 5},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lying_list_is_refused_before_anything_is_fetched(
    server: HubServer, hub: Hub, lie: dict[str, object]
) -> None:
    server.repos[MODEL].lies[BODY] = lie
    with pytest.raises(Failure) as caught:
        get(hub)
    assert caught.value.hint
    assert not any("/resolve/" in exchange.path for exchange in server.log)


def test_a_size_that_only_the_body_shows_is_refused(server: HubServer, hub: Hub) -> None:
    server.repos[MODEL].lies["vocab.json"] = {"size": 3}
    with pytest.raises(Failure, match=r"vocab.json: the Hub lists 3 bytes and sends 8"):
        get(hub)


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("../evil.safetensors", "leaves the model's folder"),
        ("gone.safetensors", "not there"),
        ("config.json", "not there"),
    ],
)
def test_an_index_that_names_what_is_not_a_shard(
    server: HubServer, hub: Hub, shard: str, message: str
) -> None:
    index = INDEX.replace(b"model-00002-of-00002.safetensors", shard.encode())
    server.add(MODEL, {**SHARDS, "config.json": CONFIG, "model.safetensors.index.json": index})
    with pytest.raises(Failure, match=message):
        fetch_small(list_source(MODEL, hub=hub), hub=hub)


@pytest.mark.parametrize(
    "index", [b"", b"[]", b'{"weight_map": 3}', b'{"weight_map": {}}', b'{"weight_map": {"a": []}}']
)
def test_an_index_that_is_none(server: HubServer, hub: Hub, index: bytes) -> None:
    server.add(MODEL, {**SHARDS, "config.json": CONFIG, "model.safetensors.index.json": index})
    said = "(has no weight_map|names no shards|is not (a JSON object|valid JSON))"
    with pytest.raises(Failure, match=rf"model\.safetensors\.index\.json {said}"):
        fetch_small(list_source(MODEL, hub=hub), hub=hub)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"model.safetensors": b""}, "no config.json"),
        ({"config.json": b"", "q4.gguf": b""}, "holds GGUF files"),
        ({"config.json": b"", **SHARDS}, "without an index"),
        ({"config.json": b"", "tf_model.h5": b""}, "one of these is needed"),
    ],
)
def test_a_repo_without_a_model(server: HubServer, hub: Hub, files: dict[str, bytes], message: str) -> None:
    server.add(MODEL, files)
    with pytest.raises(Failure) as caught:
        fetch_small(list_source(MODEL, hub=hub), hub=hub)
    assert message in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("card", "named"),
    [
        (b"---\nbase_model: acme/model\n---\n", "acme/model"),
        (b"---\nbase_model: [acme/a, acme/b]\n---\n", "acme/a, acme/b"),
        (b"---\nbase_model: [3, {}]\n---\n", "3"),
        (b"---\nbase_model: {}\n---\n", "the model that they were made from"),
        (b"", "the model that they were made from"),
        (None, "the model that they were made from"),
    ],
)
def test_a_repo_of_gguf_files_names_what_they_were_made_from(
    server: HubServer, hub: Hub, tmp_path: Path, card: bytes | None, named: str
) -> None:
    files = {"q4.gguf": b"", **({"README.md": card} if card is not None else {})}
    server.add(MODEL, files)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for model in (MODEL, str(tmp_path)):
        with pytest.raises(Failure) as caught:
            fetch_small(list_source(model, hub=hub), hub=hub)
        assert caught.value.message == f"{model}: it holds GGUF files, which are not read"
        assert caught.value.hint == f"convert {named}"


@pytest.mark.parametrize(
    "model", ["no/such/model", "../evil", "./absent", "/absent", "a b", "x/..", "a--b", "-x", ""]
)
def test_a_name_that_is_none(hub: Hub, model: str, server: HubServer) -> None:
    with pytest.raises(Failure):
        list_source(model or "\0", hub=hub)
    assert not server.log


@pytest.mark.parametrize("revision", ["../../x", "a b", "", "/main", "x//y"])
def test_a_revision_that_is_none(hub: Hub, revision: str, server: HubServer) -> None:
    with pytest.raises(UsageFailure, match="not a branch, tag or commit"):
        list_source(MODEL, revision, hub=hub)
    assert not server.log


def test_a_hub_that_is_not_there(hub: Hub) -> None:
    gone = replace(hub, endpoint="http://127.0.0.1:9")
    with pytest.raises(Failure, match=r"no connection to http://127.0.0.1:9") as caught:
        list_source(MODEL, hub=gone)
    assert "HF_HUB_OFFLINE" in caught.value.hint


@pytest.mark.parametrize("what", ["a page", "no sha", "no list"])
def test_a_server_that_is_no_hub(server: HubServer, hub: Hub, what: str) -> None:
    answers: dict[str, object] = {
        "a page": "hello",
        "no sha": {"id": MODEL},
        "no list": {"id": MODEL, "sha": "a" * 40},
    }
    server.routes = [("GET", r"/api/.*", lambda request: request.send_json(answers[what]))]
    with pytest.raises(Failure, match="not a Hub's"):
        list_source(MODEL, hub=hub)


def test_missing_and_private_repos(server: HubServer, hub: Hub) -> None:
    server.users = {TOKEN: "ann", "hf_other": "bob"}
    server.add("acme/secret", NEEDED, is_private=True, readers={"ann"})
    for model, token in [
        ("acme/none", None),
        ("acme/none", TOKEN),
        ("acme/secret", None),
        ("acme/secret", "hf_other"),
    ]:
        with pytest.raises(Failure, match=rf"{model}: no such model on .*, or it is private") as caught:
            list_source(model, hub=replace(hub, token=token))
        assert "HF_TOKEN" in caught.value.hint
    get(replace(hub, token=TOKEN), "acme/secret")
    with pytest.raises(Failure, match="does not accept your token"):
        list_source(MODEL, hub=replace(hub, token=TOKEN + "x"))
    with pytest.raises(Failure, match="no revision 'v9'"):
        list_source(MODEL, "v9", hub=hub)


@pytest.mark.parametrize("token", [None, "hf_other", TOKEN])
def test_gated_repos(server: HubServer, hub: Hub, token: str | None) -> None:
    server.users = {TOKEN: "ann", "hf_other": "bob"}
    server.add("acme/gated", NEEDED, is_gated=True, readers={"ann"})
    asking = replace(hub, token=token)
    if token == TOKEN:
        get(asking, "acme/gated")
        return
    with pytest.raises(Failure, match="the repo is gated, and you have no access") as caught:
        get(asking, "acme/gated")
    assert f"accept its terms at {server.endpoint}/acme/gated" in caught.value.hint


@pytest.fixture
def cdn() -> Iterator[HubServer]:
    with HubServer() as cdn:
        yield cdn


def test_the_token_stays_with_the_hub(
    server: HubServer,
    cdn: HubServer,
    hub: Hub,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("DEBUG")
    server.cdn = cdn
    server.users = {TOKEN: "ann"}
    server.repos[MODEL].is_private = True
    server.repos[MODEL].readers = {"ann"}
    monkeypatch.setenv("HF_TOKEN", TOKEN)  # from the shell, as most have it
    cdn.faults += [Fault("cut", after_bytes=1000, path="/blob/"), Fault("status", path="/blob/")]
    get(hub)
    assert len(cdn.log) == 3
    assert cdn.log[-1].range == "bytes=1000-"
    assert {exchange.authorization for exchange in cdn.log} == {None}
    assert {exchange.authorization for exchange in server.log} == {f"Bearer {TOKEN}"}
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(replace(hub, token=TOKEN))


@pytest.mark.parametrize("fault", [Fault("status", "/", status=403), Fault("reset", "/", times=99), None])
def test_no_error_quotes_the_token(server: HubServer, hub: Hub, fault: Fault | None) -> None:
    server.faults += [fault] if fault else []
    for token in (TOKEN, f"{TOKEN}\nx: y", f"{TOKEN}é"):
        with pytest.raises(Failure) as caught:
            get(replace(hub, token=token))
        assert TOKEN not in f"{caught.value.message} {caught.value.hint} {caught.value.__cause__!r}"


def test_patience_has_an_end_that_a_person_would_wait_for() -> None:
    retry = RetryLimits()
    assert retry.tries * retry.longest_wait_s <= retry.total_wait_s <= 600


def test_a_repo_can_hold_empty_files(server: HubServer, hub: Hub) -> None:
    server.repos[MODEL].commit({**NEEDED, "merges.txt": b"", "added_tokens.json": b""})
    pinned = fetch(list_source(MODEL, hub=hub), hub=hub)
    assert_right(pinned, {**NEEDED, "merges.txt": b"", "added_tokens.json": b""})


def test_certificates_that_cannot_be_read(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub.close_session()  # the next one reads them
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(Failure) as caught:
        list_source(MODEL, hub=hub)
    assert "SSL_CERT_FILE" in caught.value.hint


def test_a_damaged_blob_does_not_outlive_a_failed_download(server: HubServer, hub: Hub) -> None:
    fetch(list_source(MODEL, hub=hub), hub=hub)
    path = blob(hub, BODY, WEIGHTS)
    path.write_bytes(bytes(len(WEIGHTS)))
    server.faults.append(Fault("status", BODY, times=99))
    with pytest.raises(Failure, match="gave up"):
        get(hub)
    assert not path.exists()
