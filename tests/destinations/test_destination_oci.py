"""A registry: the right bytes under the tag, or one clear line; and nothing is said to who need not know."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from convert.errors import Failure, UsageFailure
from convert.progress import Silent
from convert.publish.destinations import find
from convert.publish.destinations.login import CONFIG_VARIABLE, Login, login_for
from convert.publish.destinations.oci import OciPlace, manifest_of
from tests.destinations.bundles import FILES, NEXT, QUICK, bundle_of, publish
from tests.destinations.registry_server import PASSWORD, TOKEN, USER, RegistryServer
from tests.hub.server import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from convert.publish.bundle import Bundle
    from tests.hub.server import Handler

REPO = "models/tiny-gguf"
CHUNK_BYTES = 40_000


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with RegistryServer() as running:
        yield running


def place_of(server: RegistryServer, chunk_bytes: int = CHUNK_BYTES) -> OciPlace:
    """The place on that server, with little patience and small chunks."""
    return OciPlace(server.host, "models", QUICK, chunk_bytes)


def log_in(monkeypatch: pytest.MonkeyPatch, host: str, password: str = PASSWORD) -> None:
    """As `oras login` would."""
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    monkeypatch.setenv(CONFIG_VARIABLE, json.dumps({"auths": {host: {"auth": auth}}}))


def refused(server: RegistryServer, bundle: Bundle) -> Failure:
    """The line with which a publication ends."""
    with pytest.raises(Failure) as caught:
        publish(place_of(server), bundle)
    message = caught.value.message + caught.value.hint
    assert "\n" not in message
    assert caught.value.hint
    for secret in (PASSWORD, TOKEN, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()):
        assert secret not in message
    return caught.value


def outcome(place: OciPlace, bundle: Bundle) -> str | None:
    """The line with which a publication ends, if it does not succeed."""
    try:
        publish(place, bundle)
    except Failure as failure:
        return failure.message
    return None


def test_first_again_and_next(server: RegistryServer, tmp_path: Path) -> None:
    place, bundle = place_of(server), bundle_of(tmp_path)
    survey = place.describe(bundle)
    assert (survey.exists, survey.head) == (False, None)
    assert {file.path for file in survey.missing} == set(FILES) - {"LICENSE"}  # the other has its content
    sent = publish(place, bundle)
    assert sent.is_new
    assert sent.place == f"oci://{server.host}/{REPO}"
    assert server.pulled(REPO) == FILES
    assert server.tags[REPO] == {"latest": sent.revision}

    writes = sum(exchange.method in {"POST", "PATCH", "PUT"} for exchange in server.log)
    sent = publish(place, bundle)
    assert (sent.is_new, sent.sent_bytes) == (False, 0)
    assert sum(exchange.method in {"POST", "PATCH", "PUT"} for exchange in server.log) == writes

    changed = bundle_of(tmp_path, NEXT)
    survey = place.describe(changed)
    assert {file.path for file in survey.missing} == {"README.md", "Tiny-Q8_0.gguf"}
    assert publish(place, changed).sent_bytes == survey.missing_bytes
    assert server.pulled(REPO) == NEXT


def test_it_is_what_oras_pulls(server: RegistryServer, tmp_path: Path) -> None:
    sent = publish(place_of(server), bundle_of(tmp_path))
    manifest = json.loads(server.manifests[REPO][str(sent.revision)])
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"].startswith("application/vnd.")
    assert manifest["config"] == {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
        "data": "e30=",
    }
    for layer in manifest["layers"]:
        path = layer["annotations"]["org.opencontainers.image.title"]
        assert layer["size"] == len(FILES[path])
        assert "/" in layer["mediaType"]
    assert manifest["annotations"]["org.opencontainers.image.licenses"] == "apache-2.0"
    assert manifest_of(bundle_of(tmp_path / "elsewhere")) == manifest_of(bundle_of(tmp_path))


def test_large_contents_come_in_chunks_and_others_whole(server: RegistryServer, tmp_path: Path) -> None:
    publish(place_of(server), bundle_of(tmp_path))
    patches = [exchange for exchange in server.log if exchange.method == "PATCH"]
    assert len(patches) == 2 * 4  # two models of 150,000 bytes
    assert server.pulled(REPO) == FILES


@pytest.mark.parametrize("least", [0, 60_000, 1_000_000])
def test_a_registry_may_want_larger_chunks(server: RegistryServer, tmp_path: Path, least: int) -> None:
    server.least_chunk_bytes = least
    publish(place_of(server), bundle_of(tmp_path))
    assert server.pulled(REPO) == FILES


def test_a_registry_may_take_no_chunks(server: RegistryServer, tmp_path: Path) -> None:
    server.takes_chunks = False
    publish(place_of(server), bundle_of(tmp_path))
    assert server.pulled(REPO) == FILES


def test_a_registry_may_tell_no_digests(server: RegistryServer, tmp_path: Path) -> None:
    server.tells_digests = False
    publish(place_of(server), bundle_of(tmp_path))
    assert not publish(place_of(server), bundle_of(tmp_path)).is_new
    assert server.pulled(REPO) == FILES


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_who_is_logged_in_may_push(
    server: RegistryServer, tmp_path: Path, auth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.auth = auth
    log_in(monkeypatch, server.host)
    publish(place_of(server), bundle_of(tmp_path))
    assert server.pulled(REPO) == FILES
    if auth == "bearer":
        assert server.tokens_given <= 3  # one for each of describe, send and read_back
        assert set(server.asked_scopes) == {f"repository:{REPO}:pull,push"}


def test_a_token_that_runs_out_is_renewed(
    server: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.auth = "bearer"
    log_in(monkeypatch, server.host)
    place, bundle = place_of(server), bundle_of(tmp_path)
    survey = place.describe(bundle)

    class Expiring(Silent):
        """The registry forgets its tokens while chunks are on their way."""

        def stage(self, label: str, total_bytes: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
            server.token = f"{TOKEN}-{label.replace(' ', '-')}"
            return super().stage(label, total_bytes)

    sent = place.send(bundle, survey, Expiring())
    place.read_back(bundle, sent, Expiring())
    assert server.pulled(REPO) == FILES


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize("password", [None, "wrong"])
def test_who_is_not_is_told(
    server: RegistryServer,
    tmp_path: Path,
    auth: str,
    password: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.auth = auth
    if password:
        log_in(monkeypatch, server.host, password)
    failure = refused(server, bundle_of(tmp_path))
    assert ("does not accept" if password else "wants a login") in failure.message
    assert f"oras login {server.host}" in failure.hint


FEW = {"README.md": b"# Tiny\n", "model.gguf": FILES["Tiny-Q8_0.gguf"][: 2 * CHUNK_BYTES + 1]}
AGAIN = {**FEW, "README.md": b"# Tiny, again\n"}
FAULTS = [
    Fault("status", status=503, times=2),
    Fault("status", status=429, headers={"Retry-After": "0"}),
    Fault("reset"),
    Fault("lost", times=2),
    Fault("cut-upload", after_bytes=10),
    Fault("flip"),
]
CALLS = [
    ("HEAD", "/blobs/sha256"),
    ("GET", "/blobs/sha256"),
    ("POST", "/blobs/uploads/"),
    ("PATCH", "/blobs/uploads/"),
    ("PUT", "/blobs/uploads/"),
    ("HEAD", "/manifests/"),
    ("GET", "/manifests/"),
    ("PUT", "/manifests/"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.times}")
def test_every_fault_of_every_call_ends_right_or_in_one_line(
    server: RegistryServer, tmp_path: Path, fault: Fault
) -> None:
    bundle = bundle_of(tmp_path, FEW)
    for number, (method, path) in enumerate(CALLS):
        place = replace(place_of(server), namespace=f"models{number}")
        server.faults.append(replace(fault, method=method, path=path))
        # A flipped bit that no digest on the way tells of is found when it is read back, or refused.
        refused = outcome(place, bundle)
        assert refused is None or fault.kind == "flip"
        assert server.pulled(f"models{number}/tiny-gguf") in ([FEW] if refused is None else [None, FEW])
        if refused is not None:
            publish(place, bundle)
            assert server.pulled(f"models{number}/tiny-gguf") == FEW
        assert not any(each.times for each in server.faults)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("status", status=500, times=99), "answered 500; gave up"),
        (Fault("status", status=429, headers={"Retry-After": "900"}), "wants a wait of 900 s"),
        (Fault("status", status=403), "access refused (403)"),
        (Fault("status", status=404, path="/blobs/uploads/"), "answered 404"),
        (Fault("status", status=413, path="/blobs/uploads/", method="PUT"), "too large"),
        (Fault("reset", times=99), "broke"),
        (Fault("lost", method="PUT", path="/manifests/", times=99), "broke"),
        (Fault("flip", method="PUT", path="/blobs/uploads/", times=99), "not what was sent"),
        (Fault("stall", path="/manifests/", method="GET", times=99), "broke"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_what_does_not_pass_is_one_line(
    server: RegistryServer, tmp_path: Path, fault: Fault, said: str
) -> None:
    bundle = bundle_of(tmp_path)
    server.faults.append(replace(fault, path="/v2/" if fault.path == "/resolve/" else fault.path))
    assert said in refused(server, bundle).message
    server.faults.clear()
    publish(place_of(server), bundle)
    assert server.pulled(REPO) == FILES


@pytest.mark.parametrize(
    "challenge",
    ["", "Bearer", "Negotiate x", 'Bearer realm=""', 'Bearer realm="http://["', 'Bearer realm="/t"'],
)
def test_a_challenge_that_is_none_is_one_line(server: RegistryServer, tmp_path: Path, challenge: str) -> None:
    server.faults.append(Fault("status", "/v2/", status=401, headers={"WWW-Authenticate": challenge}))
    refused(server, bundle_of(tmp_path, {"README.md": b"# Tiny\n"}))


@pytest.mark.parametrize("location", ["http://[", "file:///etc/passwd", "http://", "//", "nowhere://x", "/"])
def test_an_upload_that_leads_nowhere_is_one_line(
    server: RegistryServer, tmp_path: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_where", lambda *_: {"Location": location, "OCI-Chunk-Min-Length": "²"})
    refused(server, bundle_of(tmp_path, {"README.md": b"# Tiny\n"}))


def test_what_is_no_registry_is_one_line(tmp_path: Path) -> None:
    def page(request: Handler) -> None:
        request.send(b"<html>" * 1000, {"Content-Type": "text/html"})

    with RegistryServer() as website:
        website.routes = (("GET|HEAD|POST|PUT|PATCH", ".*", page),)
        refused(website, bundle_of(tmp_path))


def test_a_broken_upload_goes_on_where_it_stopped(server: RegistryServer, tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, {"model.gguf": FILES["Tiny-Q8_0.gguf"]})
    server.faults.append(Fault("lost", method="PATCH", path="/blobs/uploads/"))
    publish(place_of(server), bundle)
    assert sum(exchange.method == "PATCH" for exchange in server.log) == 4
    assert sum(exchange.method == "POST" for exchange in server.log) == 2  # the model's, and the config's


def test_a_rerun_sends_what_is_missing(server: RegistryServer, tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path)
    server.faults.append(Fault("status", status=403, method="PATCH", path="/blobs/uploads/"))
    refused(server, bundle)
    assert server.pulled(REPO) is None
    survey = place_of(server).describe(bundle)
    assert 0 < len(survey.missing) < len(bundle.files)
    publish(place_of(server), bundle)
    assert server.pulled(REPO) == FILES


def test_a_lying_registry_is_found(server: RegistryServer, tmp_path: Path) -> None:
    place, bundle = place_of(server), bundle_of(tmp_path)
    sent = publish(place, bundle)
    readme = next(file for file in bundle.files if file.path == "README.md")
    server.lies[f"sha256:{readme.sha256}"] = b"# Evil\n"
    with pytest.raises(Failure, match=r"README.md: what came back"):
        place.read_back(bundle, sent, Silent())
    server.lies = {str(sent.revision): manifest_of(bundle).replace(b"Tiny", b"Evil")}
    with pytest.raises(Failure, match=r":latest: what came back"):
        place.read_back(bundle, sent, Silent())


def test_tags_of_a_recipe_stay_where_they_are(server: RegistryServer, tmp_path: Path) -> None:
    place = place_of(server)
    first = publish(place, bundle_of(tmp_path, tag="v1"))
    assert server.tags[REPO] == {"latest": first.revision, "v1": first.revision}
    with pytest.raises(Failure, match="the tag v1 stands at something else"):
        place.describe(bundle_of(tmp_path, NEXT, tag="v1"))
    second = publish(place, bundle_of(tmp_path, NEXT, tag="v2"))
    assert server.tags[REPO] == {"latest": second.revision, "v1": first.revision, "v2": second.revision}


def test_what_changed_since_it_was_looked_at_is_left_alone(server: RegistryServer, tmp_path: Path) -> None:
    place, bundle = place_of(server), bundle_of(tmp_path)
    survey = place.describe(bundle)
    publish(place, bundle_of(tmp_path, NEXT))
    with pytest.raises(Failure, match="meanwhile"):
        place.send(bundle, survey, Silent())
    assert server.pulled(REPO) == NEXT


@pytest.mark.parametrize("is_after", [False, True])
def test_interrupted_at_any_request_the_tag_names_the_old_or_the_new(
    server: RegistryServer, tmp_path: Path, *, is_after: bool
) -> None:
    """Every request in turn meets a server that does not recover."""
    new, number, has_struck = bundle_of(tmp_path, AGAIN), 0, True
    publish(place_of(server), bundle_of(tmp_path, FEW))
    while has_struck:
        namespace = f"models{number}"
        server.copy(REPO, f"{namespace}/tiny-gguf")
        patient = replace(place_of(server), namespace=namespace)
        server.faults = broken = Breaking(number, is_after=is_after)
        refused = outcome(replace(patient, patience=replace(QUICK, tries=1)), new)
        server.faults = []
        assert server.pulled(f"{namespace}/tiny-gguf") in (FEW, AGAIN)
        publish(patient, new)
        assert server.pulled(f"{namespace}/tiny-gguf") == AGAIN
        has_struck = broken.has_struck
        assert has_struck == (refused is not None)
        number += 1
    assert number > 15


class Breaking(list[Fault]):
    """Faults that begin at one request and end never."""

    def __init__(self, number: int, *, is_after: bool) -> None:
        super().__init__()
        self._left = number
        self._kind = "lost" if is_after else "reset"

    @property
    def has_struck(self) -> bool:
        return self._left < 0

    def __iter__(self) -> Iterator[Fault]:
        self._left -= 1
        if self._left < 0:
            yield Fault(self._kind, path="/")


def test_a_source_that_changed_is_not_published(server: RegistryServer, tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path)
    model = next(file.content for file in bundle.files if file.path == "Tiny-Q8_0.gguf")
    assert not isinstance(model, bytes)
    for chunk_bytes in (CHUNK_BYTES, 1 << 20):
        for damage in (b"short", bytes(len(FILES["Tiny-Q8_0.gguf"]))):
            model.write_bytes(damage)
            with pytest.raises(Failure, match="changed since"):
                publish(place_of(server, chunk_bytes), bundle)
            assert server.pulled(REPO) is None


def test_a_token_is_asked_for_in_the_clear_nowhere_else(
    server: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convert.publish.destinations.registry import Registry  # noqa: PLC0415

    with Registry("registry.example", "a/b", Login(USER, PASSWORD), QUICK) as registry:
        for realm in (f"{server.endpoint}/token", "ftp://x/y", "", "/token"):
            with pytest.raises(Failure, match="for a token"):
                registry._authorized(f'Bearer realm="{realm}"')
    assert not server.log
    # An upload that a registry sends elsewhere goes there without the login.
    server.auth = "basic"
    log_in(monkeypatch, server.host)
    with RegistryServer() as other:
        there = f"{other.endpoint}/v2/{REPO}/blobs/uploads/0"
        other.sessions["0"] = b""
        monkeypatch.setattr(server, "_where", lambda *_: {"Location": there})
        with pytest.raises(Failure):
            publish(place_of(server), bundle_of(tmp_path, {"README.md": b"# Tiny\n"}))
        assert other.log
        assert {exchange.authorization for exchange in other.log} == {None}


@pytest.mark.parametrize(
    ("entry", "login"),
    [
        ({"auth": base64.b64encode(b"a:b:c").decode()}, Login("a", "b:c")),
        ({"username": "a", "password": "b"}, Login("a", "b")),
        ({"auth": ""}, None),
        ({"auth": "*"}, None),
        ({}, None),
        ("x", None),
    ],
)
def test_a_login_is_read_as_docker_writes_it(tmp_path: Path, entry: object, login: Login | None) -> None:
    config = {"auths": {"registry.example": entry}, "credsStore": "desktop"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    given = {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path / "home")}
    assert login_for("registry.example", given) == login
    assert login_for("other.example", given) is None
    assert "b:c" not in repr(login)


def test_docker_hub_has_three_names(tmp_path: Path) -> None:
    auths = {"https://index.docker.io/v1/": {"username": "a", "password": "b"}}
    given = {CONFIG_VARIABLE: json.dumps({"auths": auths}), "HOME": str(tmp_path)}
    assert login_for("docker.io", given) == login_for("registry-1.docker.io", given) == Login("a", "b")


@pytest.mark.parametrize("text", ["", "{", "[]", pytest.param("\x00", id="null byte")])
def test_a_damaged_login_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Failure, match="not the configuration"):
        login_for("registry.example", {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)})


def test_names_are_made_fit_or_refused(tmp_path: Path) -> None:
    place = find("oci://registry.example:5000/Some/Models/")
    assert isinstance(place, OciPlace)
    bundle = bundle_of(tmp_path)
    assert place._registry(bundle).name == "registry.example:5000/some/models/tiny-gguf"
    assert place._registry(bundle).endpoint == "https://registry.example:5000"
    with pytest.raises(UsageFailure):
        place._registry(replace(bundle, repo="somebody/a..b"))
    with pytest.raises(UsageFailure, match="tag"):
        place.describe(replace(bundle, tag="a/b"))
