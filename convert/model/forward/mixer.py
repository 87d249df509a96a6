"""Mixers of the forward pass: attention of every kind, the delta rule, and short convolutions."""

import numpy as np

from convert.model.decoder import Attention, Delta, Latent, Mixer, Role, ShortConvolution, StateSpace
from convert.model.forward.activation import sigmoid, silu
from convert.model.forward.attention import attend, turn
from convert.model.forward.frequency import turning
from convert.model.forward.place import Place, Rows
from convert.model.forward.state import convolved, state_space
from convert.model.mixer import LENGTH_EPSILON


def mix(place: Place, mixer: Mixer, rows: Rows) -> Rows:
    """Let each token see those before it; (tokens, hidden size) in and out."""
    if isinstance(mixer, Attention):
        return _attention(place, mixer, rows)
    if isinstance(mixer, Latent):
        return _latent(place, mixer, rows)
    if isinstance(mixer, StateSpace):
        return state_space(place, mixer, rows)
    if isinstance(mixer, Delta):
        return _delta(place, mixer, rows)
    if isinstance(mixer, ShortConvolution):
        return _short_convolution(place, rows)
    raise TypeError("another mixer is refused where a conversion is planned")


def _attention(place: Place, mixer: Attention, rows: Rows) -> Rows:
    roles = (Role.ATTN_Q, Role.ATTN_K) if mixer.is_key_value else (Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V)
    found = place.multiply(roles, rows)
    queries, keys, values = found if len(found) > 2 else [*found, found[1].copy()]
    if mixer.clip is not None:
        for each in (queries, keys, values):
            np.clip(each, -mixer.clip, mixer.clip, out=each)
    shape, size = place.texts_positions, mixer.head_size
    gate = None
    if mixer.has_gate:
        both = queries.reshape(len(rows), -1, 2, size)
        queries, gate = both[:, :, 0].copy(), both[:, :, 1].reshape(len(rows), -1)
    if mixer.qk_norm and not mixer.is_qk_norm_late:
        queries = _normed(place, mixer, queries, Role.ATTN_Q_NORM)
        keys = _normed(place, mixer, keys, Role.ATTN_K_NORM)
    heads = [each.reshape(*shape, -1, size) for each in (queries, keys, values)]
    if mixer.rope is not None:
        positions = turning(place.model.decoder, mixer.rope, shape[1]).near(rows)
        for each in heads[:2]:
            turn(each, positions, is_interleaved=mixer.rope.is_interleaved)
    if mixer.qk_norm and mixer.is_qk_norm_late:
        heads[0] = _normed(place, mixer, heads[0], Role.ATTN_Q_NORM).reshape(heads[0].shape)
        heads[1] = _normed(place, mixer, heads[1], Role.ATTN_K_NORM).reshape(heads[1].shape)
    if mixer.v_norm is not None:
        square = np.einsum("...i,...i->...", heads[2], heads[2])[..., None] / np.float32(size)
        heads[2] = heads[2] / np.sqrt(square + np.float32(mixer.v_norm.eps))
    if mixer.temperature is not None:
        steps = np.floor(np.arange(shape[1], dtype=np.float32, like=rows) / mixer.temperature.length)
        heads[0] = (
            heads[0] * (1 + mixer.temperature.scale * np.log1p(steps)).astype(np.float32)[:, None, None]
        )
    sinks = place.model.vector(place.ref(Role.ATTN_SINKS)) if mixer.has_sinks else None
    seen = attend((heads[0], heads[1], heads[2]), mixer, sinks, place.model.pool).reshape(len(rows), -1)
    if gate is not None:
        seen *= sigmoid(gate)
    return place.multiply((Role.ATTN_OUT,), seen)[0]


def _normed(place: Place, mixer: Attention, rows: Rows, role: Role) -> Rows:
    count = place.texts_positions[0] * place.texts_positions[1]
    shape = (count, -1) if mixer.qk_norm_span == "row" else (count, -1, mixer.head_size)
    return place.model.norm(place.ref(role), rows.reshape(shape))


def _latent(place: Place, mixer: Latent, rows: Rows) -> Rows:
    """Attend as llama.cpp does, with one narrow key for all heads: queries go through what widens keys."""
    (texts, positions), rank, turned = place.texts_positions, mixer.kv_rank, mixer.rope.dimensions
    if mixer.q_rank:
        narrow_queries, narrow = place.multiply((Role.LATENT_Q_DOWN, Role.LATENT_KV_DOWN), rows)
        normed = place.model.norm(place.ref(Role.LATENT_Q_NORM), narrow_queries)
        (asked,) = place.multiply((Role.LATENT_Q_UP,), normed)
    else:
        asked, narrow = place.multiply((Role.ATTN_Q, Role.LATENT_KV_DOWN), rows)
    heads = asked.reshape(texts, positions, mixer.head_count, mixer.head_size)
    keys = narrow.reshape(texts, positions, 1, rank + turned)
    keys[..., :rank] = place.model.norm(place.ref(Role.LATENT_KV_NORM), keys[..., :rank])
    angles = turning(place.model.decoder, mixer.rope, positions).near(rows)
    for each in (heads[..., mixer.plain_size :], keys[..., rank:]):
        turn(each, angles, is_interleaved=mixer.rope.is_interleaved)
    wide = place.model.matrix(place.ref(Role.LATENT_KV_UP)).reshape(mixer.head_count, -1, rank)
    queries = np.empty_like(heads, shape=(texts, positions, mixer.head_count, rank + turned))
    queries[..., rank:] = heads[..., mixer.plain_size :]
    for head, matrix in enumerate(wide[:, : mixer.plain_size]):
        plain = heads[:, :, head, : mixer.plain_size]
        place.observe((place.ref(Role.LATENT_K_UP, head),), plain.reshape(len(rows), -1))
        queries[:, :, head, :rank] = plain @ matrix
    scale = mixer.head_size**-0.5 if mixer.scale is None else mixer.scale
    one = Attention(mixer.head_count, 1, rank + turned, rope=None, scale=scale)
    # What comes after the narrow row in each value is not looked at.
    seen = attend((queries, keys, keys), one, None, place.model.pool)
    values = np.empty_like(rows, shape=(len(rows), mixer.head_count, mixer.value_size))
    for head, matrix in enumerate(wide[:, mixer.plain_size :]):
        narrow_values = seen[:, :, head, :rank].copy().reshape(len(rows), rank)
        place.observe((place.ref(Role.LATENT_V_UP, head),), narrow_values)
        values[:, head] = narrow_values @ matrix.T
    return place.multiply((Role.ATTN_OUT,), values.reshape(len(rows), -1))[0]


def _delta(place: Place, mixer: Delta, rows: Rows) -> Rows:
    roles = (
        Role.DELTA_Q, Role.DELTA_K, Role.DELTA_V, Role.DELTA_GATE, Role.DELTA_BETA, Role.DELTA_ALPHA,
    )  # fmt: skip
    *joined, gate, beta, alpha = place.multiply(roles, rows)
    texts, positions = place.texts_positions
    mixed = silu(convolved(place, Role.DELTA_CONV, np.concatenate(joined, axis=1)))
    cuts = (mixer.keys_size, 2 * mixer.keys_size)
    queries, keys, values = np.split(mixed.reshape(texts, positions, -1), cuts, axis=2)
    times = mixer.value_head_count // mixer.key_head_count
    queries, keys = (
        np.repeat(_of_length_one(each.reshape(texts, positions, -1, mixer.key_size)), times, axis=2)
        for each in (queries, keys)
    )
    queries *= np.float32(mixer.key_size**-0.5)
    values = values.reshape(texts, positions, -1, mixer.value_size)
    time = alpha + place.model.vector(place.ref(Role.DELTA_TIME))
    slow = -np.exp(place.model.vector(place.ref(Role.DELTA_DECAY)))
    decay = np.exp(slow * np.logaddexp(time, np.float32(0))).reshape(texts, positions, -1)
    rate = sigmoid(beta).reshape(texts, positions, -1)
    seen = np.empty_like(values)
    state = np.zeros_like(rows, shape=(texts, mixer.value_head_count, mixer.key_size, mixer.value_size))
    for at in range(positions):
        state *= decay[:, at, :, None, None]
        known = np.einsum("thkv,thk->thv", state, keys[:, at])
        change = (values[:, at] - known) * rate[:, at, :, None]
        state += keys[:, at, :, :, None] * change[:, :, None]
        seen[:, at] = np.einsum("thkv,thk->thv", state, queries[:, at])
    normed = place.model.norm(place.ref(Role.DELTA_NORM), seen).reshape(len(rows), -1)
    return place.multiply((Role.DELTA_OUT,), normed * silu(gate))[0]


def _short_convolution(place: Place, rows: Rows) -> Rows:
    (joined,) = place.multiply((Role.CONV_IN,), rows)
    before, after, inner = np.split(joined, 3, axis=1)
    return place.multiply((Role.CONV_OUT,), after * convolved(place, Role.CONV, before * inner))[0]


def _of_length_one(heads: Rows) -> Rows:
    square = np.einsum("...i,...i->...", heads, heads)[..., None]
    shortened: Rows = heads / np.sqrt(square + np.float32(LENGTH_EPSILON))
    return shortened
