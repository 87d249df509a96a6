"""A decoder's forward pass in float32, layer by layer; what each matrix is multiplied with can be observed.

Weights are read through their origins in slices of rows: memory holds neither the model nor a layer of it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from convert.errors import Failure
from convert.model.decoder import QKV, Dense, Ref, Role
from convert.model.feature import Feature
from convert.model.forward.attention import attend, turn
from convert.model.forward.blas import single_threaded
from convert.model.forward.frequency import turning
from convert.writer.engine import available_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from convert.checkpoint import Checkpoint
    from convert.model.decoder import Decoder, Origin

    Rows = NDArray[np.float32]
    # Called with the matrices that are about to be multiplied with the same (tokens, columns).
    Observe = Callable[[tuple[Ref, ...], Rows], None]

# Weights that a thread widens at once: 2 MB, so that most matrices give each thread some.
SLICE_WEIGHTS = 1 << 19
# Tokens that pass through an MLP together: its inner rows are the widest of a layer.
MLP_TOKENS = 1024
RENDERS = frozenset({
    Feature.LEARNED_POSITIONS, Feature.PARTIAL_ROTARY,
    Feature.ROPE_LINEAR, Feature.ROPE_LLAMA3, Feature.ROPE_YARN, Feature.ROPE_LONGROPE,
    Feature.EXACT_YARN,
    Feature.WINDOW, Feature.MIXED_WINDOWS, Feature.MIXED_LAYERS,
    Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS, Feature.QK_NORM,
    Feature.LAYER_NORM, Feature.OFFSET_NORM, Feature.UNGATED_MLP, Feature.GELU, Feature.GELU_TANH,
    Feature.RELU2, Feature.EMBEDDING_SCALE,
})  # fmt: skip


class Forward:
    """The layers of one model, applied to hidden states of (texts, positions, hidden size).

    The work is cut in the same places for any number of threads, and so its results are the same.
    """

    def __init__(
        self,
        decoder: Decoder,
        checkpoint: Checkpoint,
        origins: Mapping[Ref, Origin],
        threads: int | None = None,
    ) -> None:
        self.decoder = decoder
        self._pool = ThreadPoolExecutor(threads or available_threads(), thread_name_prefix="forward")
        self._checkpoint = checkpoint
        self._origins = origins
        self._shapes = dict(decoder.shapes())

    def embed(self, tokens: NDArray[np.int32]) -> Rows:
        """Look up the tokens of some texts of one length, (texts, positions)."""
        decoder = self.decoder
        if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) < decoder.vocab_size:
            raise Failure(
                f"a text holds token {tokens.max()}, and the model's vocabulary has {decoder.vocab_size}",
                "the tokenizer files belong to another model",
            )
        hidden = self._looked_up(Ref(Role.EMBED), tokens)
        if decoder.embedding_scale is not None:
            hidden *= np.float32(decoder.embedding_scale)
        if decoder.has_positions:
            hidden += self._rows(Ref(Role.POSITION), 0, tokens.shape[1])
        return hidden

    def _looked_up(self, ref: Ref, tokens: NDArray[np.int32]) -> Rows:
        """Read the rows of some tokens, each once."""
        seen, places = np.unique(tokens, return_inverse=True)
        rows = np.concatenate([self._rows(ref, int(token), int(token) + 1) for token in seen])
        return rows[places.reshape(tokens.shape)]

    def layer(self, index: int, hidden: Rows, observe: Observe | None = None) -> Rows:
        """Pass hidden states through one layer."""
        flat: Rows = hidden.reshape(-1, hidden.shape[2]).copy()
        # What overflows is found below, and named by its layer.
        with np.errstate(all="ignore"), single_threaded():
            flat += self._attention(index, flat, hidden.shape[:2], observe)
            for first in range(0, len(flat), MLP_TOKENS):
                rows = flat[first : first + MLP_TOKENS]
                rows += self._mlp(index, rows, observe)
        if not np.isfinite(flat).all():
            raise Failure(
                f"layer {index} turns the text into numbers that are infinite or not numbers",
                "the weights are damaged; fetch them again",
            )
        return flat.reshape(hidden.shape)

    def logits(self, tokens: NDArray[np.int32]) -> Rows:
        """Score every next token of one short text, (positions, vocabulary)."""
        hidden = self.embed(tokens[None])
        for index in range(self.decoder.layer_count):
            hidden = self.layer(index, hidden)
        head = Role.EMBED if self.decoder.is_tied else Role.HEAD
        with single_threaded():
            return self._linear(Ref(head), self._norm(Ref(Role.FINAL_NORM), hidden[0]))

    def _attention(
        self, index: int, flat: Rows, texts_positions: tuple[int, ...], observe: Observe | None
    ) -> Rows:
        mixer = self.decoder.layers[index].attention
        if mixer is None:
            raise TypeError("a layer without attention is refused where a conversion is planned")
        refs = tuple(Ref(role, index) for role in QKV)
        rows = self._norm(Ref(Role.ATTN_NORM, index), flat)
        if observe:
            observe(refs, rows)
        queries, keys, values = (
            self._linear(ref, rows).reshape(*texts_positions, -1, mixer.head_size) for ref in refs
        )
        if mixer.qk_norm:
            queries = self._norm(Ref(Role.ATTN_Q_NORM, index), queries)
            keys = self._norm(Ref(Role.ATTN_K_NORM, index), keys)
        if mixer.rope is not None:
            positions = turning(self.decoder, mixer.rope, texts_positions[1])
            turn(queries, positions)
            turn(keys, positions)
        seen = attend(queries, keys, values, mixer.window, self._pool).reshape(len(flat), -1)
        out = Ref(Role.ATTN_OUT, index)
        if observe:
            observe((out,), seen)
        return self._linear(out, seen)

    def _mlp(self, index: int, flat: Rows, observe: Observe | None) -> Rows:
        mlp = self.decoder.layers[index].mlp
        if not isinstance(mlp, Dense):
            raise TypeError("a mixture of experts is refused where a conversion is planned")
        gate, up, down = (Ref(role, index) for role in (Role.MLP_GATE, Role.MLP_UP, Role.MLP_DOWN))
        rows = self._norm(Ref(Role.MLP_NORM, index), flat)
        if observe:
            observe((gate, up) if mlp.has_gate else (up,), rows)
        activate = ACTIVATIONS[mlp.activation]
        inner = activate(self._linear(gate if mlp.has_gate else up, rows))
        if mlp.has_gate:
            inner *= self._linear(up, rows)
        if observe:
            observe((down,), inner)
        return self._linear(down, inner)

    def _norm(self, ref: Ref, rows: Rows) -> Rows:
        """Normalize the last axis."""
        norm = self.decoder.norm_of(ref)
        if norm is None:
            raise ValueError(f"{ref} is no norm")
        weight = self._vector(ref)
        if norm.kind == "layer":
            rows = rows - rows.mean(axis=-1, keepdims=True)
        if norm.is_offset:
            weight = weight + np.float32(1)
        square = np.einsum("...i,...i->...", rows, rows)[..., None] / np.float32(rows.shape[-1])
        normed: Rows = rows / np.sqrt(square + np.float32(norm.eps))
        normed *= weight
        if norm.kind == "layer":
            normed += self._vector(Ref(ref.role, ref.layer, "bias"))
        return normed

    def _linear(self, ref: Ref, rows: Rows) -> Rows:
        """Multiply (tokens, in) by a matrix of (out, in), and add its bias where it has one."""
        out_size, in_size = self._shapes[ref]
        out = np.empty((len(rows), out_size), np.float32)
        step = max(1, SLICE_WEIGHTS // in_size)

        def multiply(first: int) -> None:
            stop = min(out_size, first + step)
            with np.errstate(all="ignore"):
                np.matmul(rows, self._rows(ref, first, stop).T, out=out[:, first:stop])

        for _done in self._pool.map(multiply, range(0, out_size, step)):
            pass
        self._release(ref)
        bias = Ref(ref.role, ref.layer, "bias")
        if bias in self._shapes:
            out += self._vector(bias)
        return out

    def _rows(self, ref: Ref, first: int, stop: int) -> Rows:
        """Read some rows of a matrix, (rows, in)."""
        origin = self._origins[ref]
        start, end = origin.row(first), origin.row(stop - 1) + 1
        rows = self._checkpoint.rows(
            origin.name, start, end, index=origin.index, is_transposed=origin.is_transposed
        )
        if not origin.run_rows:
            return rows
        return rows[[origin.row(row) - start for row in range(first, stop)]]

    def _release(self, ref: Ref) -> None:
        """Let the kernel drop what was read, so that resident memory does not grow with the model."""
        origin = self._origins[ref]
        first, stop = origin.row(0), origin.row(self._shapes[ref][0] - 1) + 1
        self._checkpoint.release_rows(
            origin.name, first, stop, index=origin.index, is_transposed=origin.is_transposed
        )
        if origin.is_transposed:
            self._checkpoint.release(origin.name)

    def _vector(self, ref: Ref) -> Rows:
        return self._rows(ref, 0, self._shapes[ref][0])[:, 0]


def _silu(rows: Rows) -> Rows:
    shares = np.exp(-rows)
    shares += np.float32(1)
    rows /= shares
    return rows


def _gelu_tanh(rows: Rows) -> Rows:
    inner = rows * rows
    inner *= np.float32(0.044715)
    inner += np.float32(1)
    inner *= rows
    inner *= np.float32((2 / np.pi) ** 0.5)
    np.tanh(inner, out=inner)
    inner += np.float32(1)
    rows *= inner
    rows *= np.float32(0.5)
    return rows


def _gelu(rows: Rows) -> Rows:
    """Weigh by the normal distribution, by Abramowitz and Stegun 7.1.26: within 1.5e-7 of erf."""
    scaled: Rows = np.abs(rows) * np.float32(0.5**0.5)
    near: Rows = np.float32(1) / (np.float32(1) + np.float32(0.3275911) * scaled)
    tail: Rows = np.zeros_like(rows)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail = (tail + np.float32(factor)) * near
    tail *= np.exp(-scaled * scaled)
    tail *= np.float32(0.5)
    weighed: Rows = rows * np.where(rows < 0, tail, np.float32(1) - tail)
    return weighed


def _relu2(rows: Rows) -> Rows:
    np.maximum(rows, np.float32(0), out=rows)
    rows *= rows
    return rows


ACTIVATIONS = {"silu": _silu, "gelu": _gelu, "gelu_tanh": _gelu_tanh, "relu2": _relu2}
