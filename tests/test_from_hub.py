"""The whole way from a Hub: what a person's first conversion and the ones after it see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import pytest

from tests import tiny
from tests.hub.server import HubServer
from tests.test_bad_input import make_model

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "Owner/Tiny-0.1B-Chat"
CARD = b"""---
license: other
license_name: tongyi-qianwen
language: [zh, en]
base_model: Owner/Tiny-0.1B
tags: [small]
---
# Tiny
"""
TOKEN = "hf_planted_token_of_the_tests"


def files(folder: Path) -> dict[str, bytes]:
    return {
        **{path.name: path.read_bytes() for path in folder.iterdir()},
        "README.md": CARD,
        "LICENSE": b"the licence of the original\n",
        "NOTICE": b"its notice\n",
        "flax_model.msgpack": b"not wanted" * 1000,
        "onnx/model.onnx": b"neither",
        "modeling_qwen.py": b"raise SystemExit('this must never run')\n",
    }


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer() as server:
        server.users[TOKEN] = "somebody"
        server.add(NAME, files(make_model(tmp_path / "source")), is_private=True, readers={"somebody"})
        yield server


class Person:
    """Somebody at a terminal, with a home, a token and a recipe."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "HOME": str(folder / "home"),
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": TOKEN,
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        (folder / "recipe.yaml").write_text(f"model: {NAME}\ntargets:\n  gguf: {{quants: [Q8_0, F16]}}\n")

    def run(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "convert.cli", *words],
            cwd=self.folder,
            env={**self.environment, **changes},
            capture_output=True,
            text=True,
            check=False,
        )

    def answer(self, *words: str, **changes: str) -> Any:
        done = self.run(*words, "--json", **changes)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def person(hub: HubServer, tmp_path: Path) -> Person:
    return Person(hub, tmp_path)


def test_plan_convert_again_and_offline(hub: HubServer, person: Person) -> None:
    planned = person.answer("plan", "recipe.yaml")
    asked = {exchange.path.rsplit("/", 1)[-1] for exchange in hub.bodies(NAME)}
    assert not any(name.endswith(".safetensors") for name in asked), "a plan downloads no weights"
    assert planned["download_bytes"] == planned["read_bytes"] > 0

    built = person.answer("convert", "recipe.yaml")
    assert [artifact["status"] for artifact in built["artifacts"]] == ["built", "built"]
    asked = {exchange.path.rsplit("/", 1)[-1] for exchange in hub.bodies(NAME)}
    assert not asked & {"flax_model.msgpack", "model.onnx", "modeling_qwen.py"}
    folder = person.folder / "artifacts" / "recipe" / "gguf-Q8_0"
    assert (folder / "LICENSE").read_bytes() == b"the licence of the original\n"
    assert (folder / "NOTICE").read_bytes() == b"its notice\n"
    check_manifest(json.loads((folder / "manifest.json").read_text()), hub)
    check_metadata(folder / "Tiny-0.1B-Chat-Q8_0.gguf")

    requests = len(hub.log)
    again = person.answer("convert", "recipe.yaml")
    assert [artifact["status"] for artifact in again["artifacts"]] == ["up to date", "up to date"]
    assert len(hub.log) - requests <= 2, "what stands needs the commit alone"

    requests = len(hub.log)
    offline = person.answer("convert", "recipe.yaml", "--offline", HF_TOKEN="")
    assert [artifact["status"] for artifact in offline["artifacts"]] == ["up to date", "up to date"]
    assert len(hub.log) == requests


def check_manifest(manifest: dict[str, Any], hub: HubServer) -> None:
    source = manifest["source"]
    assert (source["repo"], source["commit"]) == (NAME, hub.repos[NAME].find("main"))
    assert all(len(file["sha256"]) == 64 for file in source["files"])
    assert manifest["license"] == "tongyi-qianwen"
    assert len(manifest["chat_template_sha256"]) == 64
    assert TOKEN not in json.dumps(manifest)


def check_metadata(path: Path) -> None:
    found = {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}
    assert found["general.architecture"] == "qwen2"
    assert found["general.name"] == "Tiny 0.1B Chat"
    assert found["general.organization"] == "Owner"
    assert found["general.license"] == "other"
    assert found["general.license.name"] == "tongyi-qianwen"
    assert found["general.languages"] == ["zh", "en"]
    assert found["general.base_model.0.repo_url"] == "https://huggingface.co/Owner/Tiny-0.1B"
    assert found["general.source.repo_url"] == f"https://huggingface.co/{NAME}"
    assert found["general.file_type"] == 7
    assert found["tokenizer.ggml.pre"] == "qwen2"
    assert "<|im_start|>" in found["tokenizer.chat_template"]
    tokens = found["tokenizer.ggml.tokens"]
    assert len(tokens) == tiny.VOCAB_SIZE
    assert tokens[found["tokenizer.ggml.eos_token_id"]] == "<|im_end|>"


def test_without_the_token_a_private_repo_is_one_line(person: Person) -> None:
    done = person.run("convert", "recipe.yaml", HF_TOKEN="")
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()[-2:]
    assert NAME in error
    assert hint.startswith("hint:  ")
    assert not (person.folder / "artifacts").exists()


def test_an_architecture_is_refused_before_its_weights(hub: HubServer, person: Person) -> None:
    config = json.loads((person.folder / "source" / "config.json").read_text())
    content = {
        **files(person.folder / "source"),
        "config.json": json.dumps({**config, "model_type": "mamba"}).encode(),
    }
    hub.add(NAME, content, is_private=True, readers={"somebody"})
    done = person.run("--quiet", "convert", "recipe.yaml")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 2)
    assert "mamba" in done.stderr
    assert not [exchange for exchange in hub.bodies(NAME) if exchange.path.endswith(".safetensors")]
