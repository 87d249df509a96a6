"""Texts and conversations as one sequence of tokens, each in the form that the model expects."""

from collections.abc import Iterator, Mapping, Sequence
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


def tokenize(
    pieces: Iterator[str | Dialogue], tokenizer: Tokenizer, enough: int | None, kinds: Sequence[str] = ()
) -> tuple[NDArray[np.int32], Mapping[str, int]]:
    """Encode pieces until there are enough tokens, or no more pieces.

    Kinds of dialogue get as many tokens each, and are counted: one language takes more of them than another.
    """
    import tokenizers  # noqa: PLC0415 - needed for calibration only

    encoder = tokenizers.Tokenizer.from_buffer(tokenizer.json)
    encoder.no_truncation()
    encoder.no_padding()
    runs: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
    spare: list[tuple[str, NDArray[np.int32]]] = []  # of kinds that have their share, if others have too few
    share = -(-(enough or 0) // max(1, len(kinds)))
    counts = dict.fromkeys(kinds, 0)
    size, batch = 0, BATCH
    while (enough is None or size < enough) and (some := list(islice(pieces, batch))):
        before = size
        for piece, made in zip(some, _runs(some, tokenizer, encoder), strict=True):
            run = made
            if isinstance(piece, Dialogue) and piece.kind in counts:
                room = share - counts[piece.kind]
                spare.append((piece.kind, run[room:]))
                run = run[:room]
                counts[piece.kind] += len(run)
            runs.append(run)
            size += len(run)
        if enough is not None and size == before:
            break  # a tokenizer that finds no tokens in them finds none in more
        batch = min(MAX_BATCH, 2 * batch)
    for kind, run in spare:
        runs.append(run[: max(0, (enough or 0) - size)])
        size += len(runs[-1])
        counts[kind] += len(runs[-1])
    return np.concatenate(runs)[:enough], counts


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
            end = np.array([tokenizer.eos_id], np.int32)
            yield np.concatenate([_encode(piece.continuation(), encoder, is_markup=False), end])
        else:
            yield _encode(piece.continuation() + BETWEEN, encoder, is_markup=False)


def _encode(text: str, encoder: "tokenizers.Tokenizer", *, is_markup: bool) -> NDArray[np.int32]:
    encoder.encode_special_tokens = not is_markup
    return np.array(encoder.encode(text, add_special_tokens=False).ids, np.int32)
