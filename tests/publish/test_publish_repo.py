"""Which repo, and where in it: as the Hub's readers look for each format, and nothing upon anything else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from convert.errors import Failure, UsageFailure
from convert.publish.assembly import Makers, assemble
from convert.publish.bundle import Candidate
from convert.recipe import Publish
from convert.store import FileEntry, Manifest, SourceRecord
from tests.publish.artifacts import write_recipe
from tests.publish.bundles import attest, release, render
from tests.verify import reports
from verify.gates import Check

if TYPE_CHECKING:
    from pathlib import Path

    from convert.publish.bundle import Bundle

ONNX = {"genai_config.json": b"{}", "model.onnx": b"graph", "LICENSE": b"yes"}
WEIGHTS = {"config.json": b"{}", "model.safetensors": b"weights", "LICENSE": b"yes"}


def candidate(folder: Path, target: str, files: dict[str, bytes], **options: Any) -> Candidate:
    place = folder / target
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
    (place / "manifest.json").write_text(target)
    manifest = Manifest(
        key="0" * 64,
        recipe="",
        source=SourceRecord(repo="Qwen/Qwen-7B-Chat", commit=None, files=()),
        target=target,
        format=target.partition("-")[0],
        options=options,
        tools={},
        files=tuple(
            FileEntry(path=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            for name, content in files.items()
        ),
        tensors={},
        license="mit",
        chat_template_sha256=None,
    )
    return Candidate(target, place, manifest, "0" * 64, reports.artifact(target))


def assembled(
    folder: Path, *candidates: Candidate, repo: str = "{user}/{model}-{target}"
) -> dict[str, Bundle]:
    recipe = write_recipe(folder / "recipe")
    bundles = assemble(
        recipe,
        Publish(repo=repo),
        reports.report(*(each.result for each in candidates)),
        candidates,
        user="ann",
        source_card={},
        makers=Makers(attest, render, release),
    )
    return {bundle.repo: bundle for bundle in bundles}


def paths(bundle: Bundle) -> set[str]:
    return {file.path for file in bundle.files} - {"README.md", "release.json"}


def documents(folder: str) -> set[str]:
    return {f"{folder}manifest.json", f"{folder}report.json", f"{folder}provenance.json"}


def test_a_repo_for_each_kind_by_the_names_of_the_ecosystem(tmp_path: Path) -> None:
    other = {**ONNX, "model.onnx": b"other"}
    found = assembled(
        tmp_path,
        candidate(tmp_path, "gguf-Q4_K_M", {"m-Q4_K_M.gguf": b"4", "LICENSE": b"yes"}),
        candidate(tmp_path, "gguf-Q8_0", {"m-Q8_0.gguf": b"8", "LICENSE": b"yes"}),
        candidate(tmp_path, "onnx-int4-cpu", ONNX, precision="int4", provider="cpu"),
        candidate(tmp_path, "onnx-int4-cuda", other, precision="int4", provider="cuda"),
        candidate(tmp_path, "gptq", WEIGHTS, bits=4),
        candidate(tmp_path, "awq", WEIGHTS, bits=4),
    )
    base = "ann/Qwen-7B-Chat"
    assert set(found) == {f"{base}-GGUF", f"{base}-ONNX", f"{base}-GPTQ-Int4", f"{base}-AWQ"}
    assert paths(found[f"{base}-GGUF"]) == {
        "m-Q4_K_M.gguf",
        "m-Q8_0.gguf",
        "LICENSE",
        *documents("gguf-Q4_K_M/"),
        *documents("gguf-Q8_0/"),
    }
    each = {"genai_config.json", "model.onnx", "LICENSE"}
    assert paths(found[f"{base}-ONNX"]) == {
        "LICENSE",
        *(f"cpu-int4/{name}" for name in each),
        *(f"cuda-int4/{name}" for name in each),
        *documents("cpu-int4/"),
        *documents("cuda-int4/"),
    }
    for name in ("GPTQ-Int4", "AWQ"):
        assert paths(found[f"{base}-{name}"]) == {*WEIGHTS, *documents("")}
    assert {bundle.title for bundle in found.values()} == {"Qwen-7B-Chat"}
    assert found[f"{base}-GPTQ-Int4"].suffix == "GPTQ-Int4"


def test_each_bundle_has_the_report_of_its_own_artifacts(tmp_path: Path) -> None:
    found = assembled(
        tmp_path,
        candidate(tmp_path, "gguf-Q8_0", {"m-Q8_0.gguf": b"8"}),
        candidate(tmp_path, "awq", WEIGHTS),
    )
    for bundle in found.values():
        names = [candidate.target for candidate in bundle.candidates]
        assert [result.name for result in bundle.report.artifacts] == names
        (shipped,) = [file for file in bundle.files if file.path.endswith("report.json")]
        assert f'"name": "{names[0]}"'.encode() in shipped.read()


def test_the_report_that_goes_out_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    one = candidate(tmp_path, "gguf-Q8_0", {"m-Q8_0.gguf": b"8"})
    said = Check("opens", "no", "yes", passed=False, why="cannot open /home/ann/secret/m.gguf")
    one = replace(one, result=one.result.model_copy(update={"checks": (said,)}))
    (bundle,) = assembled(tmp_path, one).values()
    (shipped,) = [file for file in bundle.files if file.path.endswith("report.json")]
    assert b"/home/ann" not in shipped.read()
    assert "cannot open …/m.gguf".encode() in shipped.read()


def test_all_kinds_in_one_repo_do_not_meet(tmp_path: Path) -> None:
    (bundle,) = assembled(
        tmp_path,
        candidate(tmp_path, "gguf-Q8_0", {"m-Q8_0.gguf": b"8", "LICENSE": b"yes"}),
        candidate(tmp_path, "gptq-Int4", WEIGHTS, bits=4),
        candidate(tmp_path, "gptq-Int8", {**WEIGHTS, "model.safetensors": b"8"}, bits=8),
        repo="lab/all-of-it",
    ).values()
    assert paths(bundle) == {
        "m-Q8_0.gguf",
        "LICENSE",
        *(f"{folder}/{name}" for folder in ("gptq-Int4", "gptq-Int8") for name in WEIGHTS),
        *documents("gguf-Q8_0/"),
        *documents("gptq-Int4/"),
        *documents("gptq-Int8/"),
    }


def test_other_bytes_in_the_same_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"its imatrix\.gguf differs from the other artifacts' one"):
        assembled(
            tmp_path,
            candidate(tmp_path, "gguf-Q4_0", {"m-Q4_0.gguf": b"4", "imatrix.gguf": b"one"}),
            candidate(tmp_path, "gguf-Q8_0", {"m-Q8_0.gguf": b"8", "imatrix.gguf": b"other"}),
        )


@pytest.mark.parametrize("name", ["readme.md", "license"])
def test_names_that_differ_in_case_alone_are_refused(tmp_path: Path, name: str) -> None:
    files = {"m.gguf": b"8", "LICENSE": b"yes", name: b"no"}
    with pytest.raises(Failure, match="cannot both be there"):
        assembled(tmp_path, candidate(tmp_path, "gguf-Q8_0", files))


@pytest.mark.parametrize(
    "repo", ["{user}/{model}--{target}", "{user}/{model}-{target}.git", "{user}/{model}" * 9]
)
def test_a_template_that_makes_no_name(tmp_path: Path, repo: str) -> None:
    one = candidate(tmp_path, "gguf-Q8_0", {"m.gguf": b"8"})
    wanted = Publish.model_construct(repo=repo)
    with pytest.raises(UsageFailure, match="is no repo name"):
        assemble(
            write_recipe(tmp_path / "recipe"),
            wanted,
            reports.report(one.result),
            [one],
            user="ann",
            source_card={},
            makers=Makers(attest, render, release),
        )
