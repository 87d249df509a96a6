"""The text that GPTQ, AWQ and importance matrices learn from: windows of tokens, chosen by the seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from convert.calibration.text import read_text
from convert.errors import Failure, UsageFailure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from convert.recipe.model import Calibration
    from convert.tokenizer import Tokenizer

# Of a text shorter than one window; with fewer there is nothing to learn.
MIN_TOKENS = 32
# Beyond this share of unknown tokens, the text is in no language of the tokenizer's.
MAX_UNKNOWN_SHARE = 0.5
# Read at least so much of a long text, and twice what the windows should need at 4 bytes a token.
MIN_READ_BYTES = 32 << 20
READ_BYTES_PER_TOKEN = 8


@dataclass(frozen=True)
class Windows:
    """Stretches of text as tokens, in the text's order."""

    tokens: tuple[NDArray[np.int32], ...] = field(repr=False)
    source: str  # the text's file name, without its folder
    length: int  # tokens in each; where there is but one, it may be shorter than asked
    digest: str  # of the tokens and the settings that chose them

    @property
    def token_count(self) -> int:
        return sum(map(len, self.tokens))


def windows(calibration: Calibration, folder: Path, tokenizer: Tokenizer, context_length: int) -> Windows:
    """Cut the recipe's calibration text into windows that the model can read, and choose some by the seed.

    A path is taken from `folder`, the recipe's own. Where the text has fewer windows than samples are asked
    for, all are taken.
    """
    if calibration.text is None:
        raise UsageFailure(
            f"calibration: {'packs' if calibration.packs else 'dataset'}: "
            "this version reads calibration text from a file only",
            "write `text: FILE` instead, a UTF-8 text or a .jsonl file with a `text` in each line",
        )
    path = folder / calibration.text.expanduser()
    length = min(calibration.length, context_length)
    read_bytes = max(MIN_READ_BYTES, calibration.samples * length * READ_BYTES_PER_TOKEN)
    stream = _tokenise(read_text(path, read_bytes, calibration.seed), tokenizer)
    _check(stream, path, tokenizer, length)
    first = tokenizer.bos_id if tokenizer.add_bos else None
    if first is not None:
        stream = np.concatenate([np.array([first], np.int32), stream])
    length = min(length, len(stream))
    chosen = _chosen(len(stream) // length, calibration.samples, calibration.seed)
    cut = tuple(stream[index * length : (index + 1) * length].copy() for index in chosen)
    if first is not None:
        for window in cut:
            # As llama-imatrix does: the token in its place is given up.
            window[0] = first
    return Windows(cut, path.name, length, _digest(cut, calibration))


def _tokenise(texts: Iterable[str], tokenizer: Tokenizer) -> NDArray[np.int32]:
    """Turn pieces of text into one run of tokens; a special token's name is text, as to llama-imatrix."""
    import tokenizers  # noqa: PLC0415 - only where there is text to calibrate with

    encoder = tokenizers.Tokenizer.from_buffer(tokenizer.json)
    encoder.encode_special_tokens = True
    encoder.no_truncation()
    encoder.no_padding()
    runs = [np.array(encoder.encode(text, add_special_tokens=False).ids, np.int32) for text in texts]
    return np.concatenate([np.empty(0, np.int32), *runs])


def _check(stream: NDArray[np.int32], path: Path, tokenizer: Tokenizer, length: int) -> None:
    needed = min(MIN_TOKENS, length)
    if len(stream) < needed:
        raise Failure(
            f"{path}: the text makes {len(stream)} tokens, and fewer than {needed} teach nothing",
            f"give a longer text: {length} tokens fill one window",
        )
    unknown = int((stream == tokenizer.unk_id).sum()) if tokenizer.unk_id is not None else 0
    if unknown > MAX_UNKNOWN_SHARE * len(stream):
        raise Failure(
            f"{path}: {unknown} of the text's {len(stream)} tokens are unknown to the tokenizer",
            "take a text in a language that the model was trained on",
        )


def _chosen(count: int, samples: int, seed: int) -> list[int]:
    """Choose by digests: a library's random numbers may differ from version to version."""
    drawn = sorted(range(count), key=lambda index: hashlib.sha256(f"{seed} {index}".encode()).digest())
    return sorted(drawn[:samples])


def _digest(cut: tuple[NDArray[np.int32], ...], calibration: Calibration) -> str:
    settings = {"samples": calibration.samples, "length": calibration.length, "seed": calibration.seed}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for window in cut:
        digest.update(len(window).to_bytes(8, "little") + window.astype("<i4").tobytes())
    return digest.hexdigest()
