"""Merges that were chosen, with "▁" for a space: Gemma 4's form, for which llama.cpp has no scores."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer as Encoder

from convert.errors import Failure
from convert.formats.gguf.vocabulary import vocabulary_deviations, vocabulary_fields
from convert.tokenizer import Tokenizer, load
from tests.tokenizer.test_tokenizer_agreement import STRINGS, encoders
from tests.tokenizer.vocabularies import added, copy_of, gemma_folder, write_json
from tests.tokenizer.vocabulary_runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHOWN = "<|tool_call>"


def folder_with(change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    """One merge for each token, as BPE learns them, in place of every cut."""
    folder = copy_of(gemma_folder())
    content = json.loads((folder / "tokenizer.json").read_text())
    model, seen, kept = content["model"], set(), []
    for left, right in model["merges"]:
        is_one_line = not (left + right).strip("\n") or "\n" not in left + right
        if left + right not in seen and is_one_line:
            seen.add(left + right)
            kept.append([left, right])
    # The merge that is kept makes no "\n\n\n": the first two are joined before.
    model["merges"] = [merge for merge in kept if "".join(merge) != "\n\n\n"]
    model["vocab"]["<no run>"] = model["vocab"].pop("\n\n\n")
    first = max(model["vocab"].values()) + 10
    content["added_tokens"].append(added(first, SHOWN, special=True))
    change(content)
    write_json(folder / "tokenizer.json", content)
    return folder


@functools.cache
def opened() -> Tokenizer:
    """The canonical form of it."""
    return load(folder_with(), "gemma", {}, 1900)


def test_llama_cpp_agrees(tmp_path: Path) -> None:
    fields = {key: value for key, _, value, _ in vocabulary_fields(opened())}
    assert fields["tokenizer.ggml.model"] == "gemma4"
    assert len(fields["tokenizer.ggml.merges"]) == len(opened().merges)
    runtime = Runtime(opened(), tmp_path / "v.gguf")
    texts = [text for text in STRINGS if "</s>" not in text]
    ours = encoders(Encoder.from_str(opened().json.decode()))[False](texts)
    theirs = [runtime.encode(text, special=False) for text in texts]
    assert [text for text, one, other in zip(texts, ours, theirs, strict=True) if one != other] == []
    spelled = b"".join(map(runtime.piece, runtime.encode("Hello,  世界 🚀\n\n\ta", special=False))).decode()
    assert spelled == "Hello,  世界 🚀\n\n\ta"
    text = "<start_of_turn>Hello<end_of_turn>"
    wrapped = Encoder.from_str(opened().json.decode()).encode(text).ids
    assert runtime.encode(text, special=True, wrapped=True) == wrapped


def test_scores_would_join_otherwise() -> None:
    """Else this fixture would prove nothing: with every cut a merge, scores say the same."""
    every_cut = load(gemma_folder(), "gemma", {}, 1900)
    assert {key: value for key, _, value, _ in vocabulary_fields(every_cut)}[
        "tokenizer.ggml.model"
    ] == "llama"
    assert len(every_cut.merges) > len(opened().merges)


def test_what_a_chat_parser_reads_is_shown() -> None:
    fields = {key: value for key, _, value, _ in vocabulary_fields(opened())}
    assert fields["tokenizer.ggml.token_type"][opened().tokens.index(SHOWN)] == 4


def test_bos_is_always_put_first() -> None:
    folder = folder_with()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", settings | {"add_bos_token": False})
    tokenizer = load(folder, "gemma", {}, 1900)
    assert any("puts bos before every text" in line for line in vocabulary_deviations(tokenizer))
    runtime = Runtime(tokenizer, folder / "v.gguf")
    assert runtime.encode("a", special=True, wrapped=True)[0] == tokenizer.bos_id
    assert not any("puts bos before every text" in line for line in vocabulary_deviations(opened()))


def test_a_token_across_lines_is_refused() -> None:
    def run(content: dict[str, Any]) -> None:
        content["model"]["vocab"]["\n\n\n"] = content["model"]["vocab"].pop("<no run>")

    def cross(content: dict[str, Any]) -> None:
        vocab = content["model"]["vocab"]
        vocab |= {"\n": 1880, "\n▁": 1881}
        content["model"]["merges"].append(["\n", "▁"])

    for change in (run, cross):
        with pytest.raises(Failure, match=r"llama\.cpp would join"):
            vocabulary_fields(load(folder_with(change), "gemma", {}, 1900))
