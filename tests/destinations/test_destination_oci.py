"""A registry: the right bytes under the tag, in the form that ORAS pulls."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema  # type: ignore[import-untyped]
import pytest

from convert.errors import Failure, UsageFailure
from convert.progress import Silent
from convert.publish.destinations import find
from convert.publish.destinations.oci import OciDestination
from convert.publish.oci.modelpack import pack
from tests.destinations.bundles import FILES, NEXT, bundle_of, publish, tree
from tests.destinations.pushing import CHUNK_BYTES, REPO, place_of
from tests.provenance.publication import make_bundle, make_keys

if TYPE_CHECKING:
    from tests.destinations.registry_server import RegistryServer

HERE = Path(__file__).parent
MODEL_DATA = "cpu-int4/model.onnx.data"


def test_first_again_and_next(server: RegistryServer, tmp_path: Path) -> None:
    place, bundle = place_of(server), bundle_of(tmp_path)
    survey = place.survey(bundle)
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
    survey = place.survey(changed)
    assert {file.path for file in survey.missing} == {"README.md", "Tiny-Q8_0.gguf"}
    assert publish(place, changed).sent_bytes == survey.missing_bytes
    assert server.pulled(REPO) == NEXT


def test_it_is_a_modelpack_artifact(server: RegistryServer, tmp_path: Path) -> None:
    sent = publish(place_of(server), bundle_of(tmp_path))
    manifest = json.loads(server.manifests[REPO][str(sent.revision)])
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    for layer in manifest["layers"]:
        path = layer["annotations"]["org.opencontainers.image.title"]
        assert layer["annotations"]["org.cncf.model.filepath"] == path
        assert layer["size"] == len(FILES[path])
        assert layer["mediaType"] == "application/vnd.cncf.model.doc.v1.raw"  # no manifest names it
    assert manifest["annotations"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    again = bundle_of(tmp_path / "elsewhere")
    assert [each.data for each in pack(again, ("latest",))] == [server.manifests[REPO][str(sent.revision)]]


@pytest.mark.parametrize("lists", [True, False])
def test_each_artifact_has_a_tag_and_what_attests_it(
    server: RegistryServer, tmp_path: Path, *, lists: bool
) -> None:
    server.lists_referrers = lists
    bundle = make_bundle(tmp_path, make_keys(tmp_path).signer)
    publish(place_of(server), bundle)
    labels = {"latest", "Q8_0", "Q4_K_M", "cpu-int4"}
    assert {tag for tag in server.tags[REPO] if not tag.startswith("sha256-")} == labels
    assert server.pulled(REPO) == {file.path: file.read() for file in bundle.files}
    one = server.pulled(REPO, "Q8_0")
    assert one
    assert {path for path in one if path.endswith((".gguf", ".data"))} == {"Tiny-Q8_0.gguf"}
    assert {"README.md", "gguf-Q8_0/manifest.json", "NOTICE"} < set(one)
    assert not any(path.startswith(("gguf-Q4_K_M", "cpu-int4")) for path in one)
    schema = json.loads((HERE / "modelpack.schema.json").read_text())
    for tag, layers in {"Q8_0": ["Tiny-Q8_0.gguf"], "cpu-int4": ["cpu-int4/model.onnx", MODEL_DATA]}.items():
        digest = server.tags[REPO][tag]
        manifest = json.loads(server.manifests[REPO][digest])
        kinds = {
            each["annotations"]["org.cncf.model.filepath"]: each["mediaType"] for each in manifest["layers"]
        }
        assert [path for path, kind in kinds.items() if kind.endswith(".weight.v1.raw")] == layers
        config = json.loads(server.stored[REPO][manifest["config"]["digest"]])
        jsonschema.validate(config, schema)
        assert config["modelfs"]["diffIds"] == [each["digest"] for each in manifest["layers"]]
        assert config["config"]["quantization"] == tag
        assert config["config"]["format"] == ("gguf" if tag == "Q8_0" else "onnx")
        assert {each["artifactType"] for each in server.referring(REPO, digest)} == {
            "application/vnd.dsse.envelope.v1+json",
            "application/vnd.cyclonedx+json",
            "application/vnd.dev.sigstore.bundle.v0.3+json",
        }
    writes = len(server.log)
    assert not publish(place_of(server), bundle).is_new
    assert not any(each.method in {"POST", "PUT"} for each in server.log[writes:])


@pytest.mark.apart
def test_oras_pulls_it(server: RegistryServer, tmp_path: Path) -> None:
    """The package for Python."""
    oras = pytest.importorskip("oras.client")
    publish(place_of(server), bundle_of(tmp_path))
    client = oras.OrasClient(hostname=server.host, insecure=True)
    client.pull(target=f"{server.host}/{REPO}:latest", outdir=str(tmp_path / "pulled"))
    assert tree(tmp_path / "pulled") == FILES


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


def test_tags_of_a_recipe_stay_where_they_are(server: RegistryServer, tmp_path: Path) -> None:
    place = place_of(server)
    first = publish(place, bundle_of(tmp_path, tag="v1"))
    assert server.tags[REPO] == {"latest": first.revision, "v1": first.revision}
    with pytest.raises(Failure, match="the tag v1 already names something else"):
        place.survey(bundle_of(tmp_path, NEXT, tag="v1"))
    second = publish(place, bundle_of(tmp_path, NEXT, tag="v2"))
    assert server.tags[REPO] == {"latest": second.revision, "v1": first.revision, "v2": second.revision}


def test_what_changed_since_it_was_looked_at_is_left_alone(server: RegistryServer, tmp_path: Path) -> None:
    place, bundle = place_of(server), bundle_of(tmp_path)
    survey = place.survey(bundle)
    publish(place, bundle_of(tmp_path, NEXT))
    with pytest.raises(Failure, match="meanwhile"):
        place.send(bundle, survey, Silent())
    assert server.pulled(REPO) == NEXT


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


def test_names_are_made_fit_or_refused(tmp_path: Path) -> None:
    place = find("oci://registry.example:5000/Some/Models/")
    assert isinstance(place, OciDestination)
    bundle = bundle_of(tmp_path)
    assert place._registry(bundle.repo).name == "registry.example:5000/some/models/tiny-gguf"
    assert place._registry(bundle.repo).endpoint == "https://registry.example:5000"
    with pytest.raises(UsageFailure):
        place._registry("somebody/a..b")
    with pytest.raises(UsageFailure, match="tag"):
        place.survey(replace(bundle, tag="a/b"))
