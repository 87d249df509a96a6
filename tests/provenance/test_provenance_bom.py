"""The bill of materials: valid by CycloneDX's own schema, and true."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from convert.publish import repo
from convert.publish.provenance.bom import bill_of_materials
from convert.publish.provenance.statement import provenance_of
from convert.store import AdapterRecord
from tests.provenance.publication import COMMIT, make_candidate, make_candidates, manifest_of

if TYPE_CHECKING:
    from pathlib import Path

    from convert.store import Manifest


def validated(data: bytes) -> Any:
    """The bill, having made sure that it is one."""
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415 - two seconds, in each process that collects
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode())
    assert fault is None, fault
    return json.loads(data)


def made_of(root: Path, manifest: Manifest) -> Any:
    """The bill of one artifact."""
    candidate = make_candidate(root, manifest, {"model.gguf": b"weights", "NOTICE": b"n"})
    return validated(bill_of_materials(repo.placed([candidate])[0]))


def test_every_bill_is_valid_and_names_every_file(tmp_path: Path) -> None:
    serials = set()
    for candidate in make_candidates(tmp_path):
        bill = validated(bill_of_materials(candidate))
        model = bill["metadata"]["component"]
        assert model["type"] == "machine-learning-model"
        hashes = {each["name"]: each["hashes"][0]["content"] for each in model["components"]}
        assert hashes == {candidate.shipped_path(each.path): each.sha256 for each in candidate.manifest.files}
        serials.add(bill["serialNumber"])
    assert len(serials) == 3


def test_the_source_is_pinned(tmp_path: Path) -> None:
    bill = made_of(tmp_path, manifest_of("gguf-Q8_0"))
    (source,) = bill["components"]
    assert source["purl"] == f"pkg:huggingface/Owner/Tiny@{COMMIT}"
    assert {each["name"]: each["hashes"][0]["content"] for each in source["components"]} == {
        "config.json": "1" * 64,
        "model.safetensors": "2" * 64,
    }
    assert bill["metadata"]["component"]["pedigree"]["ancestors"][0]["version"] == COMMIT
    assert bill["dependencies"][0] == {"ref": "model", "dependsOn": ["source"]}


def test_tools_measurements_and_shortcomings_are_told(tmp_path: Path) -> None:
    bill = made_of(tmp_path, manifest_of("gguf-Q8_0"))
    tools = {each["name"]: each["purl"] for each in bill["metadata"]["tools"]["components"]}
    assert tools == {
        "modelwright": "pkg:generic/modelwright@0.1.0",
        "numpy": "pkg:pypi/numpy@2.2.6",
        "torch": "pkg:pypi/torch@2.13.0%2Bcpu",
    }
    card = bill["metadata"]["component"]["modelCard"]
    metrics = {each["type"]: each["value"] for each in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert metrics["ppl_ratio"] == "1.025"
    assert card["considerations"]["technicalLimitations"] == [
        "blk.0: Q5_0 instead of Q4_K, because rows of 96",
        "top1 was waived: for tests only",
    ]


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("apache-2.0", [{"license": {"id": "Apache-2.0"}}]),
        ("mit", [{"license": {"id": "MIT"}}]),
        ("tongyi-qianwen", [{"license": {"name": "tongyi-qianwen"}}]),
        (None, None),
    ],
)
def test_a_licence_goes_by_its_name(tmp_path: Path, licence: str | None, said: Any) -> None:
    bill = made_of(tmp_path, manifest_of("gguf-Q8_0", licence=licence))
    assert bill["metadata"]["component"].get("licenses") == said


def test_every_spdx_name_is_one(tmp_path: Path) -> None:
    from convert.publish.provenance.bom import _SPDX  # noqa: PLC0415

    candidate = make_candidate(tmp_path, manifest_of("gguf-Q8_0"), {"m": b"w"})
    bill = json.loads(bill_of_materials(candidate))
    bill["metadata"]["component"]["licenses"] = [{"license": {"id": each}} for each in _SPDX.values()]
    validated(json.dumps(bill).encode())


def test_a_local_folder_has_no_address(tmp_path: Path) -> None:
    bill = made_of(tmp_path, manifest_of("gguf-Q8_0", source=None))
    assert "purl" not in bill["components"][0]
    assert "version" not in bill["components"][0]


def test_an_adapter_is_named_with_its_license(tmp_path: Path) -> None:
    plain = manifest_of("gguf-Q8_0", licence="apache-2.0")
    adapter = AdapterRecord(
        repo="Tuner/Poet",
        commit="a" * 40,
        files=plain.source.files[:1],
        base="Owner/Tiny",
        license="cc-by-4.0",
    )
    manifest = plain.model_copy(update={"adapter": adapter})
    bill = made_of(tmp_path, manifest)
    model = bill["metadata"]["component"]
    assert model["name"].startswith("Tuner/Poet (")
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}, {"license": {"id": "CC-BY-4.0"}}]
    ancestors = [each["purl"] for each in model["pedigree"]["ancestors"]]
    assert ancestors == [f"pkg:huggingface/Owner/Tiny@{COMMIT}", f"pkg:huggingface/Tuner/Poet@{'a' * 40}"]
    assert bill["dependencies"][0] == {"ref": "model", "dependsOn": ["source", "adapter"]}
    statement = provenance_of(manifest, {})
    named = [
        each["name"]
        for each in statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        if "digest" in each
    ]
    assert named == [*(each.path for each in plain.source.files), "adapter/config.json"]
