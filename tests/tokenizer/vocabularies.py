"""Checkpoint folders with a tokenizer in them: two real vocabularies, and small ones trained on the spot."""

from __future__ import annotations

import atexit
import base64
import functools
import gzip
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer

from convert.model.splitting import ONE_DIGIT
from convert.tokenizer.bytelevel import spell
from tests.tokenizer.strings import all_strings

FIXTURES = Path(__file__).parents[1] / "fixtures" / "tokenizers"
LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GEMMA_TURNS = ("<start_of_turn>", "<end_of_turn>")


@functools.cache
def gpt2_folder() -> Path:
    """vocab.json and merges.txt, as the first releases had them."""
    return _unpacked("gpt2", "vocab.json", "merges.txt")


@functools.cache
def qwen_folder() -> Path:
    """qwen.tiktoken with the settings of Qwen-7B-Chat."""
    folder = _unpacked("qwen", "qwen.tiktoken")
    write_json(
        folder / "tokenizer_config.json", {"model_max_length": 8192, "tokenizer_class": "QWenTokenizer"}
    )
    write_json(
        folder / "generation_config.json",
        {"chat_format": "chatml", "eos_token_id": 151643, "pad_token_id": 151643, "max_new_tokens": 512},
    )
    return folder


@functools.cache
def small_qwen_folder() -> Path:
    """qwen.tiktoken of 1,000 ranks: the same steps and special tokens around a vocabulary of our own."""
    vocab = train_byte_level(ONE_DIGIT, 1000).get_vocab()
    byte_of = {spell(bytes([byte])): byte for byte in range(256)}
    lines = [
        base64.b64encode(bytes(byte_of[letter] for letter in token)) + b" %d\n" % identity
        for token, identity in sorted(vocab.items(), key=lambda item: item[1])
    ]
    folder = new_folder()
    (folder / "qwen.tiktoken").write_bytes(b"".join(lines))
    return folder


@functools.cache
def llama3_folder() -> Path:
    """Byte-level BPE that takes whole words first and puts a token before the text."""
    tokenizer = train_byte_level(LLAMA3_REGEX, 1500, ignore_merges=True)
    specials = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>")
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in specials])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single="<|begin_of_text|> $A",
            pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
            special_tokens=[("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))],
        ),
    ])  # fmt: skip
    folder = new_folder()
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|end_of_text|>",
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": "{{ bos_token }}{% for m in messages %}{{ m.content }}<|eot_id|>{% endfor %}",
        },
    )
    return folder


@functools.cache
def spm_folder() -> Path:
    """Llama 2's form: sentencepiece's BPE with byte fallback, a space before the text."""
    folder = new_folder()
    write_json(folder / "tokenizer.json", spm_content(["<unk>", "<s>", "</s>"], with_prefix=True))
    write_json(
        folder / "tokenizer_config.json",
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer"},
    )
    return folder


@functools.cache
def gemma_folder() -> Path:
    """Gemma's form: no space before the text, tokens that users may write, "\\t" beside its byte token."""
    content = spm_content(["<pad>", "<eos>", "<bos>", "<unk>"], with_prefix=False)
    vocab = content["model"]["vocab"]
    vocab["\t"] = vocab["<0x09>"]
    first = max(vocab.values()) + 1
    content["added_tokens"] += [
        added(identity, text, special=text in GEMMA_TURNS)
        for identity, text in enumerate(("<b>", "</b>", "[multimodal]", *GEMMA_TURNS), start=first)
    ]
    folder = new_folder()
    write_json(folder / "tokenizer.json", content)
    write_json(
        folder / "tokenizer_config.json",
        {
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "add_bos_token": True,
            "chat_template": "{{ bos_token }}<start_of_turn>{{ messages[0].content }}<end_of_turn>",
        },
    )
    return folder


def train_byte_level(expression: str, size: int, *, ignore_merges: bool = False) -> Tokenizer:
    """A byte-level BPE tokenizer of our own, splitting by any expression."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.normalizer = normalizers.NFC() if not ignore_merges else None
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(expression), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return tokenizer


def spm_content(controls: list[str], *, with_prefix: bool) -> dict[str, Any]:
    """tokenizer.json as Transformers makes it of a sentencepiece model: every cut of a piece is a merge."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
    trainer = BpeTrainer(vocab_size=1200, show_progress=False, limit_alphabet=160)
    tokenizer.train_from_iterator(_corpus(), trainer)
    trained = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    runs = ["▁" * count for count in (2, 4, 8, 3)]
    pieces = [piece for piece, _ in trained if len(piece) > 1] + runs
    letters = [piece for piece, _ in trained if len(piece) == 1]
    names = [*controls, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters]
    known = {*pieces, *letters}
    merges = [
        [piece[:cut], piece[cut:]]
        for piece in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in known and piece[cut:] in known
    ]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prefix = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}
    back: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if with_prefix else []
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added(identity, text, special=True) for identity, text in enumerate(controls)],
        "normalizer": prefix if with_prefix else replace,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": back + strip},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {name: identity for identity, name in enumerate(names)},
            "merges": merges,
        },
    }


def added(identity: int, text: str, *, special: bool) -> dict[str, Any]:
    """An entry of added_tokens."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": identity, "content": text, **flags, "special": special}


def new_folder() -> Path:
    """An empty folder that lives as long as the tests do."""
    return Path(tempfile.mkdtemp(dir=_root()))


def copy_of(folder: Path) -> Path:
    """The same files in a folder of their own, to be changed."""
    copy = new_folder()
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    return copy


def write_json(path: Path, content: object) -> None:
    """Write what `json` makes of it."""
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _corpus() -> list[str]:
    kinds = all_strings()
    return [text for kind in ("english", "chinese", "code", "scripts", "numbers") for text in kinds[kind]]


def _unpacked(name: str, *files: str) -> Path:
    folder = new_folder()
    for file in files:
        (folder / file).write_bytes(gzip.decompress((FIXTURES / name / f"{file}.gz").read_bytes()))
    return folder


@functools.cache
def _root() -> str:
    root = tempfile.mkdtemp(prefix="vocabularies-")
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root
