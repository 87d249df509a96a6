"""Memory that a model takes: exact weights and caches, and what its runtime was found to hold besides."""

import functools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from convert.formats.base import Weight
from convert.model.decoder import (
    Attention,
    Decoder,
    Delta,
    Latent,
    Layer,
    Parallel,
    Role,
    ShortConvolution,
    StateSpace,
)
from convert.pick.runtime import Holds

# States of linear attention and state spaces are kept in 32 bits, whatever a cache is kept in.
STATE_BYTES = 4
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Weighed:
    """What an artifact's weights take, and which of them a token goes through."""

    size_bytes: int
    table_bytes: int  # embeddings, of which a token reads a row
    common_bytes: int  # read for every token
    expert_bytes: int  # of all experts
    expert_share: float  # of the experts, that a token chooses

    def read_bytes(self, users: int = 1) -> float:
        """Say how much a step reads in which each user gets a token; users choose experts independently."""
        return self.common_bytes + self.expert_bytes * (1 - (1 - self.expert_share) ** users)


def weigh(decoder: Decoder, weights: Iterable[Weight]) -> Weighed:
    """Add up an artifact's weights; of a table that is no head too, a token reads one row."""
    listed = list(weights)
    tables = [each for each in listed if each.ref and each.ref.role in (Role.POSITION, Role.LAYER_EMBED)]
    embeddings = [each for each in listed if each.ref and each.ref.role is Role.EMBED]
    has_head = any(each.ref and each.ref.role is Role.HEAD and each.ref.part == "weight" for each in listed)
    # Without a head the embedding is one; where it is stored once more for that, that is the last.
    tables += embeddings if has_head else embeddings[:-1]
    experts = next((layer.experts for layer in decoder.kinds if layer.experts), None)
    expert_bytes = sum(each.size_bytes for each in listed if each.ref and each.ref.expert is not None)
    table_bytes = sum(each.size_bytes for each in tables)
    total_bytes = sum(each.size_bytes for each in listed)
    return Weighed(
        total_bytes,
        table_bytes,
        total_bytes - table_bytes - expert_bytes,
        expert_bytes,
        experts.used_count / experts.count if experts else 0.0,
    )


@dataclass(frozen=True)
class Cache:
    """What all layers of a model keep of a text, by the way it grows with the text."""

    full: int = 0  # numbers for each token
    windows: tuple[tuple[int, int], ...] = ()  # tokens that are seen, and numbers for each of them
    narrow: int = 0  # numbers for each token of latent attention, as rows
    wide: int = 0  # and as heads
    state_bytes: int = 0  # however long the text is

    def size_bytes(self, tokens: int, holds: Holds) -> float:
        """Count what one user's text takes in a runtime, to the byte."""
        numbers = tokens * (self.full + (self.narrow if holds.latent == "narrow" else self.wide))
        for seen, each in self.windows:
            # A batch is written before what it pushes out is dropped.
            kept = min(tokens, seen + holds.batch_tokens) if holds.windows == "kept" else tokens
            numbers += kept * each
        return numbers * holds.cache_value_bytes + self.state_bytes


@functools.cache
def cache_of(decoder: Decoder) -> Cache:
    """Add up the layers of a model."""
    full = narrow = wide = state_bytes = 0
    windows: Counter[int] = Counter()
    for layer in decoder.layers:
        mixer = layer.mixer
        attention = mixer.attention if isinstance(mixer, Parallel) else mixer
        if isinstance(attention, Attention) and attention.kv_layer is None:  # else it reads another layer's
            seen = attention.window or attention.chunk
            if seen is None:
                full += 2 * attention.kv_size
            else:
                windows[seen] += 2 * attention.kv_size
        if isinstance(mixer, Latent):
            narrow += mixer.kv_rank + mixer.rope.dimensions
            wide += mixer.head_count * (mixer.head_size + mixer.value_size)
        state_bytes += _state_bytes(layer, decoder.hidden_size)
    return Cache(full, tuple(sorted(windows.items())), narrow, wide, state_bytes)


def cache_bytes(decoder: Decoder, tokens: int, holds: Holds) -> float:
    """Count what one user's texts take in the cache of all layers, to the byte."""
    return cache_of(decoder).size_bytes(tokens, holds)


def _state_bytes(layer: Layer, hidden: int) -> int:
    match layer.mixer:
        case Parallel(state=state) | (StateSpace() as state):
            matrix = state.inner_size * state.state_size
            return STATE_BYTES * (matrix + state.conv_size * (state.kernel - 1))
        case Delta() as delta:
            matrix = delta.value_head_count * delta.key_size * delta.value_size
            return STATE_BYTES * (matrix + (2 * delta.keys_size + delta.values_size) * (delta.kernel - 1))
        case ShortConvolution(kernel=kernel):
            return STATE_BYTES * hidden * (kernel - 1)
    return 0


@dataclass(frozen=True)
class Memory:
    """What a model takes in a runtime, part by part."""

    weights_bytes: float
    cache_bytes: float  # of all users
    runtime_bytes: float
    error: float  # how far such estimates have been off, as a share
    is_measured: bool = False

    @property
    def total_bytes(self) -> float:
        return self.weights_bytes + self.cache_bytes + self.runtime_bytes

    @property
    def most_bytes(self) -> float:
        """Return the total with the error of what was estimated."""
        return self.total_bytes * (1 + (0.0 if self.is_measured else self.error))


def estimate(
    decoder: Decoder,
    weighed: Weighed,
    holds: Holds,
    *,
    context: int,
    users: int = 1,
    prompt_tokens: int | None = None,
) -> Memory:
    """Estimate the peak, which comes with a prompt or with the last token of a full context.

    All users' texts are as long as the context, and one prompt, as long as that unless it is said, is read.
    """
    prompt = context if prompt_tokens is None else prompt_tokens
    rows = min(holds.logits_tokens or prompt, prompt)
    batch = min(holds.batch_tokens, prompt)
    reading_bytes = rows * decoder.vocab_size * holds.logits_bytes
    reading_bytes += batch * decoder.hidden_size * holds.hidden_rows.value * FLOAT_BYTES
    texts_bytes = users * cache_bytes(decoder, prompt, holds)
    answers_bytes = users * cache_bytes(decoder, context, holds) * holds.cache_copies
    answering_bytes = decoder.vocab_size * holds.logits_bytes
    if answers_bytes + answering_bytes > texts_bytes + reading_bytes:
        texts_bytes, reading_bytes = answers_bytes, answering_bytes
    mapped_bytes = weighed.table_bytes if holds.tables == "mapped" else 0
    program_bytes = holds.base_mb.value * 1e6 + decoder.vocab_size * holds.vocabulary_bytes
    return Memory(
        (weighed.size_bytes - mapped_bytes) * holds.weight_copies,
        texts_bytes,
        program_bytes + reading_bytes,
        holds.error.value,
    )
