"""Tiny models that know nothing, but speak: a chat model with its source, and what was converted from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer

from convert import convert_recipe, recipe
from convert.formats import option_models
from convert.model.splitting import ONE_DIGIT
from tests import tiny
from tests.verify.opening import opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from verify.worker import Worker

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKUP = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEXTS = (
    "The solar system has eight planets. The largest of them is Jupiter, and the smallest is Mercury.",
    "太阳系有八颗行星。最大的是木星，最小的是水星。请把内容部分扩充，加入更多有趣的事实。",
    "使用以下提供的资料来回答最后的问题。如果无法从中获得答案，请直接回答不知道。",
)
RECIPE = """
model: {folder}
targets:
  gguf: {{quants: [F32, Q8_0]}}
"""


@dataclass(frozen=True)
class Made:
    """A source, and the artifacts made from it."""

    source: Path
    f32: Path
    q8_0: Path


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A Qwen2 of random weights with a vocabulary of its own and ChatML."""
    home = tmp_path_factory.mktemp("chat")
    asked = tiny.Recipe("qwen2", {"eos_token_id": 511, "bos_token_id": None}, dtype="F32", spread=0.03)
    folder = tiny.make(home / "source", asked)
    parts = write_tokenizer(folder)
    made = tiny.tensors(asked)
    # What is no character on its own is never the likeliest: servers differ in how they show such answers.
    made["model.embed_tokens.weight"][parts] = 0
    tiny.write_safetensors(folder / "model.safetensors", made, "F32")
    (home / "tiny.yaml").write_text(RECIPE.format(folder=folder), "utf-8")
    convert_recipe(
        recipe.load(home / "tiny.yaml", option_models()), out=home / "out", threads=1, offline=True
    )
    out = home / "out" / "tiny"
    return Made(folder, out / "gguf-F32", out / "gguf-Q8_0")


def write_tokenizer(folder: Path) -> list[int]:
    """Train a byte-level vocabulary in Qwen's form; gives the tokens that are only a part of a character."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(ONE_DIGIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = tiny.VOCAB_SIZE - len(MARKUP) - 1
    tokenizer.train_from_iterator(
        TEXTS * 4, BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet)
    )
    while tokenizer.get_vocab_size() < size + 1:
        tokenizer.add_tokens([f"<|spare_{tokenizer.get_vocab_size()}|>"])
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in MARKUP])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "chat_template": CHATML}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return [token for token in range(tiny.VOCAB_SIZE) if "\ufffd" in tokenizer.decode([token])]


@pytest.fixture(scope="module")
def gguf(chat: Made) -> Iterator[Worker]:
    """Open the artifact of 32 bits once for the tests of a file."""
    with opened("llama_cpp", chat.f32) as worker:
        yield worker
