"""Every kind of file that a stranger sends: samples of it, and what reads it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGUFValueType

from convert.checkpoint.gguf_file import read_gguf
from convert.checkpoint.mapped import MappedFile
from convert.checkpoint.safetensors import read_safetensors
from convert.formats import load_recipe
from convert.formats.gguf.header import Entry, Field, pack
from convert.formats.gguf.imatrix_file import ImatrixFile, Sum, imatrix_bytes, read_imatrix
from convert.formats.gguf.vocabulary import vocabulary_deviations, vocabulary_fields
from convert.model.card import base_models, front_matter, license_of
from convert.model.config import read_config
from convert.model.families import describe
from convert.recipe import Gates
from convert.store import MANIFEST_NAME, inspect_artifact, list_artifacts, read_manifest
from convert.tokenizer import load
from tests import tiny
from tests.publish.artifacts import TARGETS, stand
from tests.tokenizer.vocabularies import LLAMA3_REGEX, train_byte_level
from tests.verify import reports
from tests.verify.answer_cases import EN, ZH
from tests.verify.test_scenarios_running import STYLE
from verify import report as reporting
from verify.judgment import shortfalls
from verify.report import markdown, page
from verify.scenarios.checks import CHECKS
from verify.scenarios.loading import _SHIPPED, read
from verify.scenarios.running import _verdict
from verify.scenarios.tidying import tidy_chat, tidy_completion

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Kind:
    """Samples, and a function that reads a file from a folder of its own; it may raise a Failure."""

    samples: Callable[[Path], list[bytes]]
    reads: Callable[[bytes, Path], object]
    is_json: bool = False


def _written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _config(data: bytes, folder: Path) -> object:
    _written(folder, "config.json", data)
    _, decoder = describe(read_config(folder))
    return decoder.parameter_count, decoder.features, decoder.kinds


def _safetensors(data: bytes, folder: Path) -> object:
    return read_safetensors(MappedFile(_written(folder, "model.safetensors", data)))


@cache
def _tokenizer() -> bytes:
    return train_byte_level(LLAMA3_REGEX, 500).to_str().encode()


TOKENIZER_CONFIG = {
    "eos_token": "a",
    "bos_token": {"content": "b", "lstrip": False, "__type": "AddedToken"},
    "add_bos_token": True,
    "model_max_length": 1024,
    "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
    "added_tokens_decoder": {"499": {"content": "<|x|>", "special": True}},
    "additional_special_tokens": ["<|x|>"],
    "tokenizer_class": "PreTrainedTokenizerFast",
}
GENERATION = {
    "eos_token_id": [1, 2],
    "bos_token_id": 3,
    "pad_token_id": 1,
    "temperature": 0.7,
    "top_k": 40,
    "top_p": 0.9,
}


def _tokenizer_of(name: str) -> Callable[[bytes, Path], object]:
    def reads(data: bytes, folder: Path) -> object:
        files = {
            "tokenizer.json": _tokenizer(),
            "tokenizer_config.json": json.dumps(TOKENIZER_CONFIG).encode(),
            "generation_config.json": json.dumps(GENERATION).encode(),
        }
        for each, content in (files | {name: data}).items():
            _written(folder, each, content)
        tokenizer = load(folder, "llama", {}, 512)
        return vocabulary_fields(tokenizer), vocabulary_deviations(tokenizer)

    return reads


def _recipe(data: bytes, folder: Path) -> object:
    return load_recipe(_written(folder, "small.yaml", data)).asked_sha256


_FIRST_RECIPE = b"""model: acme/tiny
revision: main
targets:
  gguf: {quants: [Q4_K_M, Q8_0], imatrix: calibration}
  onnx: {}
calibration: {packs: [searchqa], samples: 4}
verify: {scenarios: [searchqa], gates: {top1: 0.9}}
publish: {repo: "{user}/{model}", waive: [{gate: top1, reason: small}]}
"""
_SECOND_RECIPE = b"""model: &a acme/tiny
targets: {hf: {}, gptq: {}}
adapter: {repo: acme/lora, revision: v1}
"""
RECIPES = [_FIRST_RECIPE, _SECOND_RECIPE]


def _manifest_samples(folder: Path) -> list[bytes]:
    recipe, root = stand(folder / "ground")
    return [(root / recipe.name / TARGETS[0] / MANIFEST_NAME).read_bytes()]


def _manifest(data: bytes, folder: Path) -> object:
    artifact = folder / "artifacts" / "small" / "gguf-Q8_0"
    artifact.mkdir(parents=True, exist_ok=True)
    _written(artifact, MANIFEST_NAME, data)
    list_artifacts(folder / "artifacts")
    inspect_artifact(artifact, verify=True)
    return read_manifest(artifact).to_bytes()


def _report_samples(_: Path) -> list[bytes]:
    return [json.dumps(reports.report().as_dict()).encode()]


def _report(data: bytes, folder: Path) -> object:
    found = reporting.read(_written(folder, "report.json", data))
    for each in found.artifacts:
        list(shortfalls(each, found.source, Gates(), (), 1))
    return markdown.render(found), page.render(found)


def _card(data: bytes, folder: Path) -> object:
    _written(folder, "README.md", data)
    card, _ = front_matter(folder)
    return license_of(card), base_models(card), json.dumps(card).encode()


CARD = b"""---
license: mit
language: [en, no]
tags: &t [a, b]
base_model: acme/base
more: {x: *t, y: 1.0}
---
# Tiny
"""


def _gguf_samples(_: Path) -> list[bytes]:
    fields = {
        "general.architecture": Field("llama", GGUFValueType.STRING),
        "general.alignment": Field(32, GGUFValueType.UINT32),
        "llama.rope.freq_base": Field(1e4, GGUFValueType.FLOAT32),
        "tokenizer.ggml.tokens": Field(["a", "b"], GGUFValueType.ARRAY, GGUFValueType.STRING),
    }
    return [pack(fields, [Entry("a.weight", (2, 4), "F32", 0)]) + bytes(32)]


def _imatrix_samples(_: Path) -> list[bytes]:
    sums = {"blk.0.ffn_up": Sum(np.arange(8, dtype=np.float32), (4,))}
    legacy = b"\1\0\0\0\1\0\0\0a\4\0\0\0\2\0\0\0" + np.ones(2, "<f4").tobytes()
    return [imatrix_bytes(ImatrixFile(sums, ("x.txt",), 2, 512)), legacy]


def _answer(data: bytes, _: Path) -> object:
    text = data.decode("utf-8", "replace")
    for tidied in (tidy_chat(text)[0], tidy_completion(text, STYLE, text)[0]):
        for seen in (ZH, EN):
            for name in ("no_echo", "no_runaway", "in_language", "facts"):
                check = CHECKS[name]
                context = type(seen)(**{**vars(seen), "answer": tidied})
                verdict = _verdict(check, context, check.example)
                if verdict.why.startswith("the check broke"):
                    raise AssertionError(verdict.why)
    return None


KINDS: dict[str, Kind] = {
    "config.json": Kind(
        lambda _: [json.dumps(each).encode() for each in tiny.CONFIGS.values()], _config, is_json=True
    ),
    "safetensors": Kind(
        lambda folder: [
            (tiny.make(folder / "tiny", tiny.Recipe("llama", {})) / "model.safetensors").read_bytes()[:20_000]
        ],
        _safetensors,
    ),
    "tokenizer.json": Kind(lambda _: [_tokenizer()], _tokenizer_of("tokenizer.json"), is_json=True),
    "tokenizer_config.json": Kind(
        lambda _: [json.dumps(TOKENIZER_CONFIG).encode()],
        _tokenizer_of("tokenizer_config.json"),
        is_json=True,
    ),
    "generation_config.json": Kind(
        lambda _: [json.dumps(GENERATION).encode()], _tokenizer_of("generation_config.json"), is_json=True
    ),
    "recipe": Kind(lambda _: RECIPES, _recipe),
    "manifest.json": Kind(_manifest_samples, _manifest, is_json=True),
    "report.json": Kind(_report_samples, _report, is_json=True),
    "pack": Kind(
        lambda _: [(_SHIPPED / "searchqa-en.yaml").read_bytes()],
        lambda data, folder: read(_written(folder, "pack.yaml", data)),
    ),
    "README.md": Kind(lambda _: [CARD], _card),
    "gguf": Kind(_gguf_samples, lambda data, folder: read_gguf(_written(folder, "a.gguf", data))),
    "imatrix": Kind(_imatrix_samples, lambda data, folder: read_imatrix(_written(folder, "a.dat", data))),
    "answer": Kind(
        lambda _: ["资料2中说，大桥全长1,670米。The second material says 一千.\n1. a\n".encode()], _answer
    ),
}  # fmt: skip


def emptied(folder: Path) -> Path:
    """Make a folder that holds nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def open_reader(data: bytes, _: Path) -> object:
    """Read without a check: what a sweep has to find."""
    return data.index(b"in_sum2")
