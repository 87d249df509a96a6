"""What an artifact's own files say of the model: its architecture, its context, its template, its ends."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from convert.publish.card.label import weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from convert.publish.bundle import Candidate

# A tokenizer.json has some 10 MB; nothing that is read here is larger than this.
LARGEST_BYTES = 256 << 20
TOKENS = "tokenizer.ggml.tokens"
SAMPLING = {"temperature": "temp", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p"}  # ours: GGUF's


@dataclass(frozen=True)
class Facts:
    """A model as it can be told to those who run it; what the files do not say is None or empty."""

    architecture: str | None = None  # llama, qwen2, gpt2
    context: int | None = None
    parameters: int | None = None
    template: str | None = field(
        default=None, repr=False
    )  # Jinja: a stranger's program, only shown and probed
    markup: Mapping[str, str] = field(
        default_factory=dict
    )  # bos_token and eos_token, as templates ask for them
    ends: Mapping[int, str] = field(default_factory=dict)  # the tokens that end an answer
    sampling: Mapping[str, float] = field(default_factory=dict)  # what the source's authors advise

    @property
    def is_chat(self) -> bool:
        """Whether it takes turns, and does not just continue a text."""
        return self.template is not None


def gather(candidate: Candidate) -> Facts:
    """Read what the artifact says of itself."""
    folder, paths = candidate.folder, [entry.path for entry in candidate.manifest.files]
    match candidate.manifest.format:
        case "gguf":
            return _from_gguf([folder / file.path for file in weights(candidate)])
        case "onnx":
            return _from_genai(folder, paths)
        case _:
            return _from_config(folder, paths)


def _from_gguf(shards: Sequence[Path]) -> Facts:
    from convert.store.gguf_file import read_gguf  # noqa: PLC0415 - brings numpy

    headers = [read_gguf(path) for path in shards]
    said = headers[0].metadata
    architecture = str(said.get("general.architecture") or "")
    roles = {key: said.get(f"tokenizer.ggml.{key}_token_id") for key in ("bos", "eos", "eot", "eom")}
    numbers = {key: number for key, number in roles.items() if isinstance(number, int)}
    words = read_gguf(shards[0], {TOKENS: set(numbers.values())}).picked.get(TOKENS, {})

    def token(key: str) -> dict[int, str]:
        number = numbers.get(key)
        return {number: words[number]} if number in words else {}

    begins = token("bos") if said.get("tokenizer.ggml.add_bos_token") else {}
    ends = token("eos") | token("eot") | token("eom")
    template = said.get("tokenizer.chat_template")
    return Facts(
        architecture=architecture or None,
        context=_count(said.get(f"{architecture}.context_length")),
        parameters=sum(tensor.parameters for header in headers for tensor in header.tensors) or None,
        template=template if isinstance(template, str) else None,
        markup=_markup(begins, token("eos")),
        ends=ends,
        sampling=_sampling({key: said.get(f"general.sampling.{name}") for key, name in SAMPLING.items()}),
    )


def _from_genai(folder: Path, paths: Iterable[str]) -> Facts:
    """ONNX as onnxruntime-genai reads it; its files may lie in a folder of their provider's."""
    config = _find(folder, paths, "genai_config.json")
    if config is None:
        return Facts()
    model = _read(config).get("model")
    model = model if isinstance(model, dict) else {}
    words = _Words(config.parent)
    given = _numbers(model.get("eos_token_id"))
    return Facts(
        architecture=_word(model.get("type")),
        context=_count(model.get("context_length")),
        template=words.template(),
        markup=_markup(words.named(_numbers(model.get("bos_token_id"))), words.named(given)),
        ends=words.named(given),
    )


def _from_config(folder: Path, paths: Iterable[str]) -> Facts:
    """Safetensors as Transformers reads them, quantised or not."""
    found = _find(folder, paths, "config.json")
    if found is None:
        return Facts()
    config, words = _read(found), _Words(found.parent)
    generation = _read(found.parent / "generation_config.json")
    ends = _numbers(generation.get("eos_token_id")) or _numbers(config.get("eos_token_id"))
    context = config.get("max_position_embeddings", config.get("n_positions"))
    return Facts(
        architecture=_word(config.get("model_type")),
        context=_count(context),
        parameters=_parameters(config),
        template=words.template(),
        markup=_markup(words.named(_numbers(config.get("bos_token_id"))), words.named(ends)),
        ends=words.named(ends),
        sampling=_sampling({key: generation.get(key) for key in SAMPLING}),
    )


class _Words:
    """The tokens of a folder in Transformers' layout, by number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = _read(folder / "tokenizer_config.json")
        added = self._config.get("added_tokens_decoder")
        rows = dict(added) if isinstance(added, dict) else {}
        for row in _read(folder / "tokenizer.json").get("added_tokens") or ():
            if isinstance(row, dict):
                rows.setdefault(str(row.get("id")), row)
        self._known = {
            int(number): row["content"]
            for number, row in rows.items()
            if number.isdigit() and isinstance(row, dict) and isinstance(row.get("content"), str)
        }

    def named(self, numbers: Iterable[int]) -> dict[int, str]:
        """Those that are known."""
        return {number: self._known[number] for number in numbers if number in self._known}

    def template(self) -> str | None:
        """The chat template: the configuration's own, or a file's."""
        template = self._config.get("chat_template")
        if isinstance(template, str):
            return template
        path = self._folder / "chat_template.jinja"
        return path.read_text("utf-8", "replace") if path.is_file() else None


def _parameters(told: Mapping[str, Any]) -> int | None:
    """How many weights the architecture has: packed ones cannot be counted."""
    from convert.model.config import Config  # noqa: PLC0415
    from convert.model.families import find_architecture  # noqa: PLC0415 - for these formats alone

    # A quantised model cannot be converted, so it is refused; its sizes are those of the source.
    config = Config({key: value for key, value in told.items() if key != "quantization_config"})
    try:
        decoder = find_architecture(config).describe(config)
    except Failure:
        return None
    return sum(math.prod(shape) for _, shape in decoder.shapes())


def _find(folder: Path, paths: Iterable[str], name: str) -> Path | None:
    found = sorted((path for path in paths if path.rpartition("/")[2] == name), key=len)
    return folder / found[0] if found else None


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file() or path.stat().st_size > LARGEST_BYTES:
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _markup(begins: Mapping[int, str], ends: Mapping[int, str]) -> dict[str, str]:
    return {
        "bos_token": next(iter(begins.values()), ""),
        "eos_token": next(iter(ends.values()), ""),
    }


def _sampling(given: Mapping[str, object]) -> dict[str, float]:
    return {
        key: round(value, 6)
        for key, value in given.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _numbers(value: object) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, int) and not isinstance(each, bool)]


def _count(value: object) -> int | None:
    return next((each for each in _numbers(value) if each > 0), None)


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
