"""Calibration text for GPTQ, AWQ and importance matrices: windows of tokens, chosen by the seed."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.calibration.draw import shuffled
from convert.calibration.source import Source, find_source, identity
from convert.calibration.stream import tokenize
from convert.errors import Failure
from convert.progress import Progress, Silent
from convert.recipe.model import Calibration
from convert.tokenizer import Tokenizer

__all__ = ["Source", "Windows", "find_source", "identity", "learned_texts", "windows"]

# For a text shorter than one window; fewer tokens are useless.
MIN_TOKENS = 32
# With more unknown tokens than this, the tokenizer does not know the text's language.
MAX_UNKNOWN_SHARE = 0.5
# Of a long text, read at least this much, and twice what the windows need at 4 bytes per token.
MIN_READ_BYTES = 32 << 20
READ_BYTES_PER_TOKEN = 8


@dataclass(frozen=True)
class Windows:
    """Stretches of text as tokens, in the order of the text."""

    tokens: tuple[NDArray[np.int32], ...] = field(repr=False)
    source: str  # the text's file name without its folder, the packs' names, or a dataset at its commit
    length: int  # tokens in each; a single window may be shorter than requested
    digest: str  # of the tokens and the settings that selected them
    kinds: Mapping[str, int] = field(default_factory=dict)  # tokens of each kind of dialogue in the packs
    device: str = "cpu"  # that is to read them

    @property
    def token_count(self) -> int:
        return sum(map(len, self.tokens))

    def record(self) -> dict[str, str | int]:
        """Return its record in a manifest."""
        record: dict[str, str | int] = {
            "source": self.source,
            "windows": len(self.tokens),
            "length": self.length,
            "tokens": self.token_count,
            "sha256": self.digest,
        }
        if self.kinds:
            record["kinds"] = ", ".join(f"{kind} {count}" for kind, count in self.kinds.items())
        return record


def windows(
    calibration: Calibration,
    folder: Path,
    tokenizer: Tokenizer,
    context_length: int,
    *,
    source: Source | None = None,
    progress: Progress | None = None,
) -> Windows:
    """Cut the recipe's calibration texts into windows that the model can read, and choose some by the seed.

    Paths are relative to `folder`, the recipe's. All windows of a short text are used.
    """
    source = source or find_source(calibration, folder)
    length = min(calibration.length, context_length)
    wanted = calibration.samples * length
    pieces = source.read(_read_bytes(wanted), progress or Silent())
    stream, kinds = tokenize(pieces, tokenizer, wanted if source.is_endless else None, source.kinds)
    _check(stream, source.where, tokenizer, length)
    first = tokenizer.bos_id if tokenizer.add_bos else None
    if first is not None:
        stream = np.concatenate([np.array([first], np.int32), stream])
    length = min(length, len(stream))
    chosen = sorted(shuffled(range(len(stream) // length), calibration.seed)[: calibration.samples])
    cut = tuple(stream[index * length : (index + 1) * length].copy() for index in chosen)
    if first is not None:
        for window in cut:
            # As llama-imatrix does: it replaces the first token.
            window[0] = first
    return Windows(cut, source.label, length, _digest(cut, calibration), kinds, calibration.device)


def learned_texts(source: Source, calibration: Calibration, progress: Progress) -> Iterator[str]:
    """Read the texts that windows are cut from, as far as they are read for these; conversations as text."""
    wanted = calibration.samples * calibration.length
    left_bytes = wanted * READ_BYTES_PER_TOKEN
    for piece in source.read(_read_bytes(wanted), progress):
        text = piece if isinstance(piece, str) else piece.continuation()
        yield text
        left_bytes -= len(text.encode())
        if source.is_endless and left_bytes <= 0:
            return


def _read_bytes(wanted: int) -> int:
    return max(MIN_READ_BYTES, wanted * READ_BYTES_PER_TOKEN)


def _check(stream: NDArray[np.int32], where: str, tokenizer: Tokenizer, length: int) -> None:
    needed = min(MIN_TOKENS, length)
    if len(stream) < needed:
        what = f"{where}: the text makes {len(stream)} tokens, which is fewer than {needed}"
        raise Failure(what, f"use a longer text: {length} tokens fill one window")
    unknown = int((stream == tokenizer.unk_id).sum()) if tokenizer.unk_id is not None else 0
    if unknown > MAX_UNKNOWN_SHARE * len(stream):
        what = f"{where}: {unknown} of the text's {len(stream)} tokens are unknown to the tokenizer"
        raise Failure(what, "use a text in a language that the model was trained on")


def _digest(cut: tuple[NDArray[np.int32], ...], calibration: Calibration) -> str:
    settings = {"samples": calibration.samples, "length": calibration.length, "seed": calibration.seed}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for window in cut:
        digest.update(len(window).to_bytes(8, "little") + window.astype("<i4").tobytes())
    return digest.hexdigest()
