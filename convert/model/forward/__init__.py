"""A decoder's forward pass in float32, layer by layer; what each matrix is multiplied with can be observed.

Weights are read through their origins in slices of rows: memory holds neither the model nor a layer of it.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from convert.device import CPU
from convert.errors import Failure
from convert.model.decoder import Ref, Role
from convert.model.feature import Feature
from convert.model.forward.blas import single_threaded
from convert.model.forward.mixer import mix
from convert.model.forward.mlp import widen
from convert.model.forward.place import Observe, Place, Rows
from convert.writer.engine import available_threads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from convert.checkpoint import Checkpoint
    from convert.device import Device
    from convert.model.decoder import Decoder, Norm, Origin

# Weights that a thread widens at once: 2 MB, so that most matrices give each thread some.
SLICE_WEIGHTS = 1 << 19
# Tokens that pass through an MLP together: its inner rows are the widest of a layer.
MLP_TOKENS = 1024
RENDERS = frozenset({
    Feature.LEARNED_POSITIONS, Feature.NO_POSITIONS, Feature.ALIBI, Feature.PARTIAL_ROTARY,
    Feature.ROPE_LINEAR,
    Feature.ROPE_LLAMA3, Feature.ROPE_YARN, Feature.ROPE_LONGROPE, Feature.EXACT_YARN,
    Feature.YARN_TURNS,
    Feature.INTERLEAVED_ROTARY, Feature.PROPORTIONAL_ROTARY, Feature.MIXED_ROTARY,
    Feature.QUERY_TEMPERATURE, Feature.WINDOW, Feature.MIXED_WINDOWS, Feature.MIXED_MIXERS,
    Feature.MIXED_MLPS, Feature.MIXED_LAYERS, Feature.SINGLE_BLOCKS, Feature.PARALLEL_MLP,
    Feature.PARALLEL_MLP_NORM, Feature.RESIDUAL_SCALE, Feature.LAYER_SCALE, Feature.GATED_ATTENTION,
    Feature.KEYS_AS_VALUES, Feature.LATENT_ATTENTION, Feature.STATE_SPACE,
    Feature.STATE_NORM, Feature.STATE_NORM_FIRST, Feature.STATE_BIAS, Feature.STATE_TIMES,
    Feature.UNBIASED_CONVOLUTION, Feature.UNGATED_EXPERTS, Feature.LATENT_EXPERTS,
    Feature.DELTA_RULE, Feature.SHORT_CONVOLUTION,
    Feature.CONVOLUTION_BIAS, Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS, Feature.QK_NORM,
    Feature.QK_NORM_ROW, Feature.QK_NORM_HEADS, Feature.LATE_QK_NORM, Feature.V_NORM, Feature.CLIPPED_QKV,
    Feature.ATTENTION_SCALE, Feature.SOFTCAP, Feature.SINKS, Feature.LAYER_NORM, Feature.MIXED_NORMS,
    Feature.OFFSET_NORM, Feature.WEIGHTLESS_NORM, Feature.UNBIASED_LAYER_NORM, Feature.NO_INPUT_NORM,
    Feature.POST_NORM, Feature.UNGATED_MLP, Feature.GELU, Feature.RELU, Feature.RELU2,
    Feature.CLAMPED_SWIGLU, Feature.GELU_TANH, Feature.EXPERTS, Feature.SHARED_EXPERTS,
    Feature.UNNORMALIZED_EXPERTS, Feature.SIGMOID_ROUTING, Feature.SOFTMAX_OF_CHOSEN, Feature.EXPERT_SCALE,
    Feature.EXPERT_BIAS, Feature.EXPERT_GROUPS, Feature.SELECTION_BIAS,
    Feature.ROUTER_BIAS, Feature.GATED_SHARED_EXPERT, Feature.POSITION_OFFSET, Feature.HEAD_BIAS,
    Feature.EMBEDDING_NORM, Feature.EMBEDDING_SCALE, Feature.LOGIT_SOFTCAP, Feature.LOGIT_SCALE,
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
        device: Device = CPU,
    ) -> None:
        self.decoder = decoder
        count = device.threads(threads or available_threads())
        self.pool = ThreadPoolExecutor(count, thread_name_prefix="forward")
        self._checkpoint = checkpoint
        self._origins = origins
        self._shapes = dict(decoder.shapes())
        self.device = device
        self._held: dict[Ref, Rows] = {}  # whole matrices of a layer, where the device has room for them
        self._held_of: int | None = None

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
        if decoder.embed_norm is not None:
            hidden = self.norm(Ref(Role.EMBED_NORM), hidden)
        if decoder.has_positions:
            first = decoder.position_offset
            hidden += self._rows(Ref(Role.POSITION), first, first + tokens.shape[1])
        return hidden

    def _looked_up(self, ref: Ref, tokens: NDArray[np.int32]) -> Rows:
        """Read the rows of some tokens, each once."""
        seen, places = np.unique(tokens, return_inverse=True)
        rows = self.device.put(
            np.concatenate([self._read(ref, int(token), int(token) + 1) for token in seen])
        )
        return rows[self.device.put(places.reshape(tokens.shape))]

    def layer(self, index: int, hidden: Rows, observe: Observe | None = None) -> Rows:
        """Pass hidden states through one layer."""
        if index != self._held_of:
            self._held.clear()
            self._held_of = index
        flat: Rows = self.device.put(hidden).reshape(-1, hidden.shape[2]).copy()
        # What overflows is found below, and named by its layer.
        with np.errstate(all="ignore"), single_threaded():
            self._layer(Place(self, index, (hidden.shape[0], hidden.shape[1]), observe or _unobserved), flat)
        if not np.isfinite(flat).all():
            raise Failure(
                f"layer {index} turns the text into numbers that are infinite or not numbers",
                "the weights are damaged; fetch them again",
            )
        return flat.reshape(hidden.shape)

    def _layer(self, place: Place, flat: Rows) -> None:
        """Add what a layer's parts compute, in place."""
        index, kind = place.layer, self.decoder.layers[place.layer]
        # What a parallel MLP reads, before attention changes it.
        read = flat.copy() if kind.is_parallel else flat
        rows = self.norm(Ref(Role.ATTN_NORM, index), flat) if kind.attn_norm else flat
        if kind.mixer is not None:
            change = mix(place, kind.mixer, rows)
            flat += self._finished(Ref(Role.ATTN_POST_NORM, index), kind.attn_post_norm, change)
        if kind.mlp is not None:
            for first in range(0, len(flat), MLP_TOKENS):
                here = slice(first, first + MLP_TOKENS)
                if kind.mlp_norm:
                    inner = self.norm(Ref(Role.MLP_NORM, index), read[here])
                else:
                    inner = rows[here] if kind.is_parallel else flat[here]
                change = widen(place, kind.mlp, inner)
                flat[here] += self._finished(Ref(Role.MLP_POST_NORM, index), kind.mlp_post_norm, change)
        if kind.has_scale:
            flat *= self.vector(Ref(Role.LAYER_SCALE, index))

    def _finished(self, ref: Ref, norm: Norm | None, change: Rows) -> Rows:
        """Normalize and scale what a part computed, before it is added."""
        if norm is not None:
            change = self.norm(ref, change)
        scale = self.decoder.layers[ref.layer or 0].residual_scale
        return change if scale == 1 else change * np.float32(scale)

    def logits(self, tokens: NDArray[np.int32]) -> Rows:
        """Score every next token of one short text, (positions, vocabulary)."""
        hidden = self.embed(tokens[None])
        for index in range(self.decoder.layer_count):
            hidden = self.layer(index, hidden)
        with single_threaded():
            return self.linear(self.head, self.last(hidden))

    @property
    def head(self) -> Ref:
        """Name the matrix that scores every next token."""
        return Ref(Role.EMBED if self.decoder.is_tied else Role.HEAD)

    def last(self, hidden: Rows) -> Rows:
        """Give what the head is multiplied with, (tokens, hidden size)."""
        return self.norm(Ref(Role.FINAL_NORM), hidden.reshape(-1, hidden.shape[-1]))

    def norm(self, ref: Ref, rows: Rows) -> Rows:
        """Normalize the last axis."""
        norm = self.decoder.norm_of(ref)
        if norm is None:
            raise ValueError(f"{ref} is no norm")
        if norm.kind == "layer":
            rows = rows - rows.mean(axis=-1, keepdims=True)
        square = np.einsum("...i,...i->...", rows, rows)[..., None] / np.float32(rows.shape[-1])
        normed: Rows = rows / np.sqrt(square + np.float32(norm.eps))
        if norm.has_weight:
            weight = self._weights(ref)
            normed *= weight + np.float32(1) if norm.is_offset else weight
            if norm.kind == "layer" and norm.has_bias:
                normed += self._weights(Ref(ref.role, ref.layer, "bias"))
        return normed

    def linear(self, ref: Ref, rows: Rows) -> Rows:
        """Multiply (tokens, in) by a matrix of (out, in), and add its bias where it has one."""
        out_size, in_size = self._shapes[ref]
        out = np.empty_like(rows, np.float32, shape=(len(rows), out_size))
        step = max(1, SLICE_WEIGHTS // in_size)

        def multiply(first: int) -> None:
            stop = min(out_size, first + step)
            with np.errstate(all="ignore"):
                np.matmul(rows, self._rows(ref, first, stop).T, out=out[:, first:stop])

        if (whole := self._kept(ref)) is not None:
            np.matmul(rows, whole.T, out=out)
        else:
            for _done in self.pool.map(multiply, range(0, out_size, step)):
                pass
            self._release(ref)
        bias = replace(ref, part="bias")
        if bias in self._shapes:
            out += self.vector(bias)
        return out

    def _kept(self, ref: Ref) -> Rows | None:
        """Give a matrix that stays on the device for all texts of a layer; None where there is no room."""
        out_size, in_size = self._shapes[ref]
        if ref not in self._held:
            held_bytes = sum(each.nbytes for each in self._held.values())
            if held_bytes + 4 * out_size * in_size > self.device.held_bytes:
                return None
            step = max(1, SLICE_WEIGHTS // in_size)
            whole = np.empty_like(self.device.put(np.empty(0, np.float32)), shape=(out_size, in_size))

            def fill(first: int) -> None:
                stop = min(out_size, first + step)
                whole[first:stop] = self._rows(ref, first, stop)

            for _done in self.pool.map(fill, range(0, out_size, step)):
                pass
            self._release(ref)
            self._held[ref] = whole
        return self._held[ref]

    def _rows(self, ref: Ref, first: int, stop: int) -> Rows:
        """Read some rows of a matrix, (rows, in)."""
        return self.device.put(self._read(ref, first, stop))

    def _read(self, ref: Ref, first: int, stop: int) -> Rows:
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
        if origin.is_transposed:  # its rows are spread over all of it
            first, stop = 0, self._checkpoint.tensors[origin.name].shape[-1]
        self._checkpoint.release_rows(
            origin.name, first, stop, index=origin.index, is_transposed=origin.is_transposed
        )

    def vector(self, ref: Ref) -> Rows:
        """Read a row of numbers."""
        return self._rows(ref, 0, self._shapes[ref][0])[:, 0]

    def matrix(self, ref: Ref) -> Rows:
        """Read a matrix whole that is small, or at least narrow."""
        rows = self._rows(ref, 0, self._shapes[ref][0])
        self._release(ref)
        return rows

    def _weights(self, ref: Ref) -> Rows:
        """Read a norm's weights, (size) or (heads, size) where each head has some."""
        if ref in self._shapes:
            return self.vector(ref)
        heads = (replace(ref, expert=head) for head in itertools.count())
        return np.stack([self.vector(each) for each in itertools.takewhile(self.has, heads)])

    def has(self, ref: Ref) -> bool:
        """Check whether the model has a tensor."""
        return ref in self._shapes


def _unobserved(_refs: tuple[Ref, ...], _rows: Rows) -> None:
    pass
