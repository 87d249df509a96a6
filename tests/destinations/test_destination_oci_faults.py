"""A registry's bad days: the right bytes under the tag, or one clear line; and a rerun ends it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from convert.errors import Failure
from convert.progress import Silent
from convert.publish.destinations.oci import tags_of
from convert.publish.oci.modelpack import pack
from tests.destinations.bundles import FILES, QUICK, bundle_of, publish
from tests.destinations.pushing import CHUNK_BYTES, REPO, outcome, place_of, refused
from tests.destinations.registry_server import RegistryServer
from tests.hub.server import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hub.server import Handler


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
        (Fault("status", status=429, headers={"Retry-After": "900"}), "asks to wait 15 min 00 s"),
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
    survey = place_of(server).survey(bundle)
    assert 0 < len(survey.missing) < len(bundle.files)
    publish(place_of(server), bundle)
    assert server.pulled(REPO) == FILES


def test_a_lying_registry_is_found(server: RegistryServer, tmp_path: Path) -> None:
    place, bundle = place_of(server), bundle_of(tmp_path)
    sent = publish(place, bundle)
    readme = next(file for file in bundle.files if file.path == "README.md")
    server.lies[f"sha256:{readme.sha256}"] = b"# Evil\n"
    with pytest.raises(Failure, match=r"README.md: not what was published there"):
        place.read_back(bundle, sent, Silent())
    server.lies = {str(sent.revision): pack(bundle, tags_of(bundle))[-1].data.replace(b"Tiny", b"Evil")}
    with pytest.raises(Failure, match=r":latest: not what was published there"):
        place.read_back(bundle, sent, Silent())


@pytest.mark.parametrize("is_after", [False, pytest.param(True, marks=pytest.mark.slow)])
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
        refused = outcome(replace(patient, retry=replace(QUICK, tries=1)), new)
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
