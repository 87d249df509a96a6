"""onnxruntime-genai reads text as the source's tokenizer does; where it does not, the manifest says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime_genai
import pytest
from tokenizers import Tokenizer as Reference

from convert.formats.onnx import vocabulary
from convert.tokenizer import Tokenizer, load
from tests import tiny
from tests.onnx import genai
from tests.tokenizer import vocabularies
from tests.tokenizer.strings import CODE, all_strings, not_nfc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCES: dict[str, tuple[Callable[[], Path], str, int]] = {
    "gpt2": (vocabularies.gpt2_folder, "gpt2", 50257),
    "qwen": (vocabularies.qwen_folder, "qwen", 151936),
    "small-qwen": (vocabularies.small_qwen_folder, "qwen", 1300),
    "llama3": (vocabularies.llama3_folder, "llama", 2000),
    "spm": (vocabularies.spm_folder, "llama", 3000),
    "gemma": (vocabularies.gemma_folder, "gemma", 3000),
}
# Of each kind of strings, how many may be read otherwise: what the deviations speak of, and no more.
ALLOWED = {
    "gpt2": {"spaces": 4},
    "qwen": {"spaces": 13},
    "small-qwen": {"spaces": 4},
    "llama3": {"spaces": 4},
}
REAL = ("gpt2", "qwen")
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in REAL else name for name in SOURCES]
# Each line of code stands often enough in the small corpus to be one long token, which no real vocabulary
# has: genai merges sentencepiece's pieces in stretches of some letters that end between words.
WITHOUT_CODE = ("spm", "gemma")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Any graph: genai opens no tokenizer without one."""
    folder = tmp_path_factory.mktemp("graph")
    tiny.make(folder / "model", tiny.Recipe("qwen2", {"num_hidden_layers": 1}))
    return genai.convert_folder(folder / "model", folder / "out", precision="int4")


def opened(folder: Path, tokenizer: Tokenizer) -> onnxruntime_genai.Tokenizer:
    for name, content in vocabulary.files(tokenizer).items():
        (folder / name).write_bytes(content)
    return onnxruntime_genai.Tokenizer(onnxruntime_genai.Model(str(folder)))


@pytest.mark.parametrize("name", NAMES)
def test_text_is_read_as_by_the_source(name: str, graph: Path) -> None:
    folder, model_type, size = SOURCES[name]
    ours = load(folder(), model_type, {"model_type": model_type}, size)
    theirs, reference = opened(graph, ours), Reference.from_str(ours.json.decode())
    for kind, texts in all_strings().items():
        differing = [
            text
            for text in texts
            if theirs.encode(text).tolist() != reference.encode(text, add_special_tokens=False).ids
            and not (name in WITHOUT_CODE and any(line in text for line in CODE))
        ]
        assert len(differing) <= ALLOWED.get(name, {}).get(kind, 0), (kind, differing[:3])
    said = {deviation.subject.removeprefix("tokenizer: ") for deviation in vocabulary.deviations(ours)}
    is_nfc = all(
        theirs.encode(text).tolist() == reference.encode(text, add_special_tokens=False).ids
        for text in not_nfc()
    )
    assert is_nfc == ("letters with accents" not in said)
    assert (name in ALLOWED) == ("white space" in said)
    assert ours.add_bos == ("first token" in said)
    theirs.update_options(add_special_tokens="true")
    assert theirs.encode("Hello").tolist() == reference.encode("Hello").ids


@pytest.mark.parametrize("name", NAMES)
def test_tokens_become_the_same_text(name: str, graph: Path) -> None:
    folder, model_type, size = SOURCES[name]
    ours = load(folder(), model_type, {"model_type": model_type}, size)
    theirs, reference = opened(graph, ours), Reference.from_str(ours.json.decode())
    kinds = all_strings()
    for text in (*kinds["english"], *kinds["chinese"], *kinds["emoji"]):
        ids = reference.encode(text, add_special_tokens=False).ids
        wanted = reference.decode(ids)
        # Llama 2's first space is cut by the reference alone; it stands in the text, as what follows a text.
        wanted = (" " if name == "spm" else "") + wanted
        stream = theirs.create_stream()
        assert "".join(stream.decode(token) for token in ids) == wanted
        if name != "spm":
            assert theirs.decode(np.array(ids, np.int32)) == wanted


def test_template_and_ends_are_the_sources(graph: Path) -> None:
    ours = load(vocabularies.small_qwen_folder(), "qwen", {"model_type": "qwen"}, 1300)
    theirs = opened(graph, ours)
    chat = [{"role": "user", "content": "你好"}]
    assert theirs.apply_chat_template(json.dumps(chat), add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"
    )
