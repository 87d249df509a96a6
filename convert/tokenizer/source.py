"""Where a vocabulary comes from: one of three kinds of files, each brought to the same document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from convert.tokenizer.bytelevel import spell
from convert.tokenizer.document import Document, read_document
from convert.tokenizer.file import BROKEN, read_object, read_text
from convert.tokenizer.model import AddedToken
from convert.tokenizer.pretokenizer import QWEN2
from convert.tokenizer.rank import read_ranks, recover_merges

if TYPE_CHECKING:
    from pathlib import Path

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_BYTES_ONLY = {**_BYTE_LEVEL, "use_regex": False}
_GPT2_STEPS = {"pre_tokenizer": _BYTE_LEVEL, "post_processor": _BYTE_LEVEL, "decoder": _BYTE_LEVEL}
_QWEN_STEPS: dict[str, Any] = {
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False},
            _BYTES_ONLY,
        ],
    },
    "post_processor": _BYTES_ONLY,
    "decoder": _BYTES_ONLY,
}
# vocab.json and merges.txt do not say how text is split: the tokenizer's class, or the model's type, does.
_STEPS_OF_CLASS: dict[str, dict[str, Any]] = {"GPT2Tokenizer": _GPT2_STEPS, "Qwen2Tokenizer": _QWEN_STEPS}
_STEPS_OF_TYPE: dict[str, dict[str, Any]] = {"gpt2": _GPT2_STEPS, "qwen2": _QWEN_STEPS, "qwen3": _QWEN_STEPS}
# tokenization_qwen.py: these follow the ranks, as many as there is room for.
_QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{n}|>" for n in range(205)))


def find_document(folder: Path, model_type: str, settings: dict[str, Any], vocab_size: int) -> Document:
    """The vocabulary of the checkpoint in `folder`; `settings` is its tokenizer_config.json."""
    if (folder / "tokenizer.json").is_file():
        return read_document(read_object(folder / "tokenizer.json"), "tokenizer.json")
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _from_vocab(folder, model_type, settings)
    ranks = sorted(folder.glob("*.tiktoken"))
    if len(ranks) == 1 and model_type == "qwen":
        return _from_ranks(ranks[0], vocab_size)
    if len(ranks) > 1:
        raise Failure(f"{ranks[0].name} and {ranks[1].name}: which of them is the vocabulary?")
    if ranks:
        raise Failure(
            f"{ranks[0].name}: how {model_type!r} splits text is not written in it",
            "add the tokenizer.json of the model",
        )
    wanted = "tokenizer.json, or vocab.json and merges.txt, or a .tiktoken file"
    if (folder / "tokenizer.model").is_file():
        raise Failure("tokenizer.model alone does not say how text is prepared for it", f"add {wanted}")
    raise Failure("the checkpoint has no tokenizer", f"wanted: {wanted}")


def _from_vocab(folder: Path, model_type: str, settings: dict[str, Any]) -> Document:
    name = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
    steps = _STEPS_OF_CLASS.get(name) or _STEPS_OF_TYPE.get(model_type)
    if steps is None:
        raise Failure(
            f"vocab.json, merges.txt: how {name or model_type!r} splits text is not written in them",
            "add the tokenizer.json of the model",
        )
    vocab = read_object(folder / "vocab.json")
    merges = _read_merges(folder / "merges.txt", vocab)
    return Document(origin="vocab.json", vocab=vocab, merges=merges, added=(), **steps)


def _read_merges(path: Path, vocab: dict[str, int]) -> tuple[tuple[str, str], ...]:
    merges = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if (number == 1 and line.startswith("#version")) or not line.strip("\r"):
            continue
        pair = line.rstrip("\r").split(" ")
        if len(pair) != 2 or not all(pair):
            raise Failure(f"{path.name}:{number}: not two tokens with a space between", BROKEN)
        for token in (*pair, "".join(pair)):
            if token not in vocab:
                raise Failure(f"{path.name}:{number}: {token!r} is not in vocab.json", BROKEN)
        merges.append((pair[0], pair[1]))
    return tuple(merges)


def _from_ranks(path: Path, vocab_size: int) -> Document:
    ranks = read_ranks(path)
    merges = recover_merges(ranks, path.name)
    spelt = {token: spell(token) for token in ranks}
    first = max(ranks.values()) + 1
    room = max(vocab_size - first, 3)
    return Document(
        origin=path.name,
        vocab={spelt[token]: rank for token, rank in ranks.items()},
        merges=tuple((spelt[left], spelt[right]) for left, right in merges),
        added=tuple(
            AddedToken(first + place, content, special=True)
            for place, content in enumerate(_QWEN_SPECIAL[:room])
        ),
        **_QWEN_STEPS,
    )
