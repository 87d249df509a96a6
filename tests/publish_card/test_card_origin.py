"""Commands by where a repo was published, the sentence that chooses, and what is folded."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from convert.pick.known import find_model
from convert.publish.bundle import Origin
from convert.publish.card import advice, render
from convert.publish.destinations import find
from convert.publish.listing import NAME
from convert.source import Hub
from tests.publish_card.cards import Card

if TYPE_CHECKING:
    from pathlib import Path

    from convert.publish.bundle import Bundle
    from tests.publish_card.cards import Artifacts

ORIGINS = {
    "folder": Origin("folder"),
    "store": Origin("store", "s3://bucket/models/tiny-GGUF"),
    "registry": Origin("registry", "registry.example/models/tiny-gguf", "latest"),
}
ONLY_ON_THE_HUB = ("hf download", "hf auth", "hf.co/", "-hf ", "from_pretrained(\n", "snapshot_download")


@pytest.mark.parametrize("kind", ORIGINS)
@pytest.mark.parametrize("target", ["gguf-Q8_0", "onnx-int4-cpu", "hf"])
def test_no_command_asks_the_hub_for_what_is_elsewhere(artifacts: Artifacts, kind: str, target: str) -> None:
    card = artifacts.card(artifacts.candidate(target), origin=ORIGINS[kind])
    assert not [each for each in ONLY_ON_THE_HUB if each in card.body]
    assert card.bundle.repo not in card.section("Run")
    assert "xinference.json" not in card.made
    assert ("Download" in card.titles) == (kind != "folder")
    folder = card.bundle.repo.rpartition("/")[2]
    first = card.section("Run").partition("```")[2]
    assert folder in first
    if kind == "registry":
        assert card.commands[0] == [
            *("oras", "pull", "registry.example/models/tiny-gguf:latest", "-o", folder)
        ]


def test_the_hub_keeps_its_short_commands(artifacts: Artifacts) -> None:
    card = artifacts.card()
    assert card.commands[0][:2] == ["hf", "download"]
    assert "ollama run hf.co/" in card.body


def test_a_stores_release_is_fetched_by_the_cards_command(artifacts: Artifacts, tmp_path: Path) -> None:
    place, release = tmp_path / "store", "0123456789abcdef"
    card = artifacts.card(origin=Origin("store", place.as_uri()))
    fetched = card.commands[0]
    folder, *names = fetched[fetched.index(place.as_uri()) + 1 :]
    assert names
    for name in names:
        (place / release / name).parent.mkdir(parents=True, exist_ok=True)
        (place / release / name).write_text(name, "utf-8")
    (place / NAME).write_text(json.dumps({"version": release}), "utf-8")
    subprocess.run([sys.executable, *fetched[1:]], cwd=tmp_path, check=True)
    assert {name: (tmp_path / folder / name).read_text("utf-8") for name in names} == {
        name: name for name in names
    }


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("./out", Origin("folder")),
        ("memory://bucket/models", Origin("store", "memory://bucket/models/My-GGUF")),
        ("oci://Registry.example/Models", Origin("registry", "Registry.example/models/my-gguf", "latest")),
        (None, Origin()),
    ],
)
def test_each_destination_says_where_files_come_from(
    address: str | None, origin: Origin, tmp_path: Path
) -> None:
    destination = find(address, Hub(endpoint="http://localhost:1", cache=tmp_path, notes=tmp_path))
    assert destination.origin("someone/My-GGUF", "main") == origin


def unmeasured(bundle: Bundle) -> Bundle:
    """The same without figures that other machines would be judged by."""
    bare = [
        replace(each, result=each.result.model_copy(update={"memory": None, "quality": None}))
        for each in bundle.candidates
    ]
    return replace(bundle, candidates=tuple(bare))


def test_one_sentence_says_which_file_to_take(artifacts: Artifacts) -> None:
    bundle = unmeasured(artifacts.bundle())
    card = Card(bundle, render(bundle))
    (said,) = re.findall(r"^\*\*Which file\?\*\* (Take .*)$", card.body, re.MULTILINE)
    assert "a laptop with 8 GB and no GPU" in said
    assert re.findall("`[^`]*`", said)[0] == "`F16`"
    assert "one user and 1,024 tokens" in said
    without = replace(card.bundle, model=None)
    assert advice.sentence(without) == ""
    failed = [
        replace(each, result=each.result.model_copy(update={"checks": ()})) for each in card.bundle.candidates
    ]
    assert advice.sentence(replace(card.bundle, candidates=tuple(failed))) == ""


def test_a_larger_model_is_advised_by_the_room_it_leaves(artifacts: Artifacts) -> None:
    """The figures are those of a published model; only the names of the files are the tiny one's."""
    bundle = unmeasured(artifacts.bundle())
    bundle = replace(bundle, model=find_model("Qwen/Qwen2.5-7B-Instruct", artifacts.root))
    needs = {each.target: advice.needs(bundle, each, 32_768) for each in bundle.candidates}
    q6, f16 = needs["gguf-Q6_K"], needs["gguf-F16"]
    assert q6 is not None
    assert f16 is not None
    assert q6.size_bytes[4096] == pytest.approx(6.7e9, rel=0.1)  # 6.25 GB of weights
    assert q6.size_bytes[32_768] - q6.size_bytes[4096] == pytest.approx(28_672 * 57_344, rel=0.01)
    assert f16.size_bytes[4096] > 15e9
    said = advice.sentence(bundle)
    assert said.index("`Q6_K`") < said.index("`F16`")
    assert "8 GB and no GPU" not in said


def test_what_follows_the_first_three_runtimes_is_folded(artifacts: Artifacts) -> None:
    run = artifacts.card().section("Run")
    shown, _, folded = run.partition("<details>")
    assert re.findall(r"^### (.*)$", shown, re.MULTILINE) == [
        *("Download", "llama.cpp", "llama-cpp-python", "Ollama")
    ]
    titles = re.findall(r"^### (.*)$", folded, re.MULTILINE)
    assert f"<summary>{', '.join(titles)}</summary>" in folded
    assert titles[0] == "llamafile"
    assert shlex.split(artifacts.card().blocks("sh")[0])


def test_sampling_is_what_the_source_advises(artifacts: Artifacts) -> None:
    candidate = artifacts.candidate()
    recorded = candidate.manifest.model
    assert recorded is not None
    advised = recorded.model_copy(update={"sampling": {"temperature": 0.7, "top_p": 0.8}})
    changed = artifacts.candidate(manifest={"model": advised})
    assert "advise to sample with temperature 0.7, top_p 0.8" in artifacts.card(changed).section("Prompt")
    plain = artifacts.candidate(manifest={"model": recorded.model_copy(update={"sampling": {}})})
    assert "advise to sample" not in artifacts.card(plain).body
