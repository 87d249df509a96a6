"""Causal attention of whole texts in bounded memory: queries in blocks, and only the keys that they see."""

from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from convert.checkpoint.floats import to_f32
from convert.device import is_here, near
from convert.model.decoder import Alibi, Attention
from convert.model.forward.frequency import Turning
from convert.writer.codecs.plain import to_bf16

# Scores that a thread holds at once: 4 MB, or 256 MB of a GPU's memory.
MAX_SCORES, MAX_FAR_SCORES = 1 << 20, 1 << 26


def turn(heads: NDArray[np.float32], turning: Turning, *, is_interleaved: bool = False) -> None:
    """Turn the halves of each head's first dimensions, or neighbors; (texts, positions, heads, size)."""
    half = turning.cosines.shape[1]
    cosines, sines = turning.cosines[:, None], turning.sines[:, None]
    left, right = heads[..., :half], heads[..., half : 2 * half]
    if is_interleaved:
        left, right = heads[..., : 2 * half : 2], heads[..., 1 : 2 * half : 2]
    turned = right * cosines + left * sines
    left *= cosines
    left -= right * sines
    right[...] = turned


def attend(
    heads_of: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    mixer: Attention,
    sinks: NDArray[np.float32] | None,
    pool: Executor,
) -> NDArray[np.float32]:
    """Let each position see itself and those before it, the last of them where there is a window.

    Queries, keys and values are (texts, positions, heads, size), the latter with fewer heads where shared.
    """
    queries, keys, values = heads_of
    texts, _, head_count, _ = queries.shape
    groups = keys.shape[2]
    shared = head_count // groups
    out = np.empty_like(queries)
    biases = (
        None if mixer.alibi is None else near(_biases(mixer.alibi, head_count, queries.shape[1]), queries)
    )

    def attend_one(text: int, group: int) -> None:
        heads = slice(group * shared, (group + 1) * shared)
        asked = queries[text, :, heads].swapaxes(0, 1).copy()
        known = keys[text, :, group].copy()
        seen = values[text, :, group].T.copy()
        sink = None if sinks is None else sinks[heads]
        bias = None if biases is None else biases[heads]
        out[text, :, heads] = _attend_one(asked, known, seen, mixer, sink, bias=bias).swapaxes(0, 1)

    places = list(np.ndindex(texts, groups))
    for _done in pool.map(attend_one, *zip(*places, strict=True)):
        pass
    return out


def _attend_one(
    queries: NDArray[np.float32],
    keys: NDArray[np.float32],
    values: NDArray[np.float32],
    mixer: Attention,
    sinks: NDArray[np.float32] | None,
    *,
    bias: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Attend in one text with those heads that share their keys; values are (size, positions)."""
    shared, positions, size = queries.shape
    window = mixer.window
    queries = queries * np.float32(size**-0.5 if mixer.scale is None else mixer.scale)
    out = np.empty_like(queries)
    first = 0
    most = MAX_SCORES if is_here(queries) else MAX_FAR_SCORES
    with np.errstate(all="ignore"):
        while first < positions:
            seen_from = 0 if window is None else max(0, first - window + 1)
            stop = min(positions, first + _block(first - seen_from, most // shared))
            scores = queries[:, first:stop].reshape(-1, size) @ keys[seen_from:stop].T
            if mixer.softcap is not None:
                scores = np.tanh(scores / np.float32(mixer.softcap)) * np.float32(mixer.softcap)
            if bias is not None:  # the same is taken from all scores of a head, so that they stay small
                added = bias[:, seen_from:stop] - bias[:, stop - 1 : stop]
                scores.reshape(shared, -1, stop - seen_from)[...] += added[:, None]
            answer = _weighted(
                scores,
                values[:, seen_from:stop],
                _hidden(first, stop, seen_from, window, scores),
                None if sinks is None else np.repeat(sinks, stop - first),
            )
            out[:, first:stop] = answer.reshape(shared, stop - first, size)
            first = stop
    return out


def _biases(alibi: Alibi, head_count: int, length: int) -> NDArray[np.float32]:
    """Give what each head adds to the scores of each key, (heads, positions)."""
    even = 1 << head_count.bit_length() - 1  # the largest power of two: other heads' slopes lie between
    steps = [*range(2, 2 * even + 1, 2), *range(1, 2 * (head_count - even), 2)]
    slopes = np.exp2(-4 / even * np.array(steps)).astype(np.float32)[:, None]
    positions = np.arange(length, dtype=np.float32)
    found = _coarse(_coarse(slopes) * _coarse(positions)) if alibi.is_coarse else slopes * positions
    return found * np.float32(alibi.scale)


def _coarse(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return to_f32(to_bf16(values), "BF16")


def _block(keys_before: int, fitting: int) -> int:
    """Count the queries whose scores fit, each block of them adding as many keys to those before."""
    return max(1, int((np.sqrt(keys_before**2 + 4 * fitting) - keys_before) / 2))


def _hidden(
    first: int, stop: int, seen_from: int, window: int | None, like: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Tell which of the keys each query must not see, (queries, keys)."""
    query, key = np.arange(first, stop, like=like)[:, None], np.arange(seen_from, stop, like=like)
    hidden: NDArray[np.bool_] = key > query
    return hidden if window is None else hidden | (key <= query - window)


def _weighted(
    scores: NDArray[np.float32],
    values: NDArray[np.float32],
    hidden: NDArray[np.bool_],
    sinks: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    np.copyto(scores.reshape(-1, *hidden.shape), -np.inf, where=hidden)
    highest = scores.max(axis=1, keepdims=True)
    if sinks is not None:
        highest = np.maximum(highest, sinks[:, None])
    scores -= highest
    np.exp(scores, out=scores)
    answer: NDArray[np.float32] = scores @ values.T
    total = scores.sum(axis=1, keepdims=True)
    if sinks is not None:
        total += np.exp(sinks[:, None] - highest)
    answer /= total
    return answer
