"""Texts and conversations as one sequence of tokens, each in the form that the model expects."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convert.calibration.chat import lay_out
from convert.calibration.dialogue import Dialogue
from convert.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers

# Rendered together, since starting a child for each would take most of the time.
BATCH = 64
MAX_BATCH = 1024
BETWEEN = "\n\n"


def tokenize(pieces: Iterator[str | Dialogue], tokenizer: Tokenizer, enough: int | None) -> NDArray[np.int32]:
    """Encode pieces until there are enough tokens, or no more pieces."""
    import tokenizers  # noqa: PLC0415 - needed for calibration only

    encoder = tokenizers.Tokenizer.from_buffer(tokenizer.json)
    encoder.no_truncation()
    encoder.no_padding()
    runs: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
    size, batch = 0, BATCH
    while (enough is None or size < enough) and (some := list(islice(pieces, batch))):
        before = size
        for run in _runs(some, tokenizer, encoder):
            runs.append(run)
            size += len(run)
        if enough is not None and size == before:
            break  # a tokenizer that finds no tokens in them finds none in more
        batch = min(MAX_BATCH, 2 * batch)
    return np.concatenate(runs)[:enough]


def _runs(
    pieces: Sequence[str | Dialogue], tokenizer: Tokenizer, encoder: "tokenizers.Tokenizer"
) -> Iterator[NDArray[np.int32]]:
    talks = [piece for piece in pieces if isinstance(piece, Dialogue)]
    laid_out = iter(
        lay_out(talks, tokenizer.chat_template, tokenizer) if tokenizer.chat_template and talks else ()
    )
    for piece in pieces:
        if isinstance(piece, str):
            # Names of special tokens are plain text, as in llama-imatrix.
            yield _encode(piece, encoder, is_markup=False)
        elif tokenizer.chat_template:
            yield _encode(next(laid_out), encoder, is_markup=True)
        elif tokenizer.eos_id is not None:
            yield _encode(piece.continuation(), encoder, is_markup=False)
            yield np.array([tokenizer.eos_id], np.int32)
        else:
            yield _encode(piece.continuation() + BETWEEN, encoder, is_markup=False)


def _encode(text: str, encoder: "tokenizers.Tokenizer", *, is_markup: bool) -> NDArray[np.int32]:
    encoder.encode_special_tokens = not is_markup
    return np.array(encoder.encode(text, add_special_tokens=False).ids, np.int32)
