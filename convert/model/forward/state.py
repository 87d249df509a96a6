"""State spaces of the forward pass, a stretch of positions at a time, and the convolution before them."""

import numpy as np

from convert.model.decoder import Ref, Role, StateSpace
from convert.model.forward.activation import silu
from convert.model.forward.place import Place, Rows

# Positions that are computed as attention, between which a state is carried.
STRETCH = 64


def state_space(place: Place, mixer: StateSpace, rows: Rows) -> Rows:
    """Let each token see those before it through states that forget; (tokens, hidden size) in and out."""
    texts, positions = place.texts_positions
    (joined,) = place.multiply((Role.STATE_IN,), rows)
    gate, inner, time = np.split(joined, (mixer.inner_size, mixer.inner_size + mixer.conv_size), axis=1)
    mixed = silu(convolved(place, Role.STATE_CONV, inner)).reshape(texts, positions, -1)
    shared = mixer.group_count * mixer.state_size
    heads, keys, queries = np.split(mixed, (mixer.inner_size, mixer.inner_size + shared), axis=2)
    heads = heads.reshape(texts, positions, mixer.head_count, mixer.head_size)
    keys, queries = (
        each.reshape(texts, positions, mixer.group_count, mixer.state_size) for each in (keys, queries)
    )
    steps = np.logaddexp(time + place.model.vector(place.ref(Role.STATE_TIME)), np.float32(0))
    steps = np.clip(steps, *mixer.times).astype(np.float32).reshape(texts, positions, -1)
    decays = steps * -np.exp(place.model.vector(place.ref(Role.STATE_DECAY)))
    values = heads * steps[..., None]
    seen = heads * place.model.vector(place.ref(Role.STATE_SKIP))[:, None]
    times = mixer.head_count // mixer.group_count

    def remember(text: int, group: int) -> None:
        of_group = slice(group * times, (group + 1) * times)
        seen[text, :, of_group] += _remembered(
            queries[text, :, group],
            keys[text, :, group],
            values[text, :, of_group],
            decays[text, :, of_group],
        )

    places = list(np.ndindex(texts, mixer.group_count))
    for _done in place.model.pool.map(remember, *zip(*places, strict=True)):
        pass
    return place.multiply((Role.STATE_OUT,), _gated(place, mixer, seen.reshape(len(rows), -1), gate))[0]


def _remembered(queries: Rows, keys: Rows, values: Rows, decays: Rows) -> Rows:
    """Add up what heads that share queries and keys have seen, each forgetting at its own rate.

    Queries and keys are (positions, state), values (positions, heads, size), decays (positions, heads).
    """
    out = np.empty_like(values)
    state = np.zeros_like(values, shape=(values.shape[1], keys.shape[1], values.shape[2]))
    for first in range(0, len(queries), STRETCH):
        here = slice(first, first + STRETCH)
        asked, known = queries[here], keys[here]
        given = values[here].swapaxes(0, 1)  # (heads, positions, size)
        kept = np.cumsum(decays[here], axis=0).T  # (heads, positions), in logarithms
        later = np.tril(np.ones_like(asked, np.bool_, shape=(len(asked), len(asked))))
        fading = np.exp(np.where(later, kept[:, :, None] - kept[:, None], -np.inf))
        found = ((asked @ known.T) * fading) @ given + np.exp(kept)[..., None] * (asked @ state)
        out[here] = found.swapaxes(0, 1)
        rest = np.exp(kept[:, -1:] - kept)[..., None] * given
        state = np.exp(kept[:, -1])[:, None, None] * state + known.T @ rest
    return out


def _gated(place: Place, mixer: StateSpace, rows: Rows, gate: Rows) -> Rows:
    """Weigh by the gate, and normalize group by group, before or after."""
    active = silu(gate.copy())
    if mixer.norm is None:
        return rows * active
    if not mixer.is_norm_first:
        rows = rows * active
    groups = rows.reshape(len(rows), mixer.group_count, -1)
    square = np.einsum("...i,...i->...", groups, groups)[..., None] / np.float32(groups.shape[-1])
    normed = (groups / np.sqrt(square + np.float32(mixer.norm.eps))).reshape(rows.shape)
    normed = normed * place.model.vector(place.ref(Role.STATE_NORM))
    found: Rows = (normed * active if mixer.is_norm_first else normed).astype(np.float32, copy=False)
    return found


def convolved(place: Place, role: Role, rows: Rows) -> Rows:
    """Mix each channel with its last few values."""
    texts, positions = place.texts_positions
    weight = place.model.matrix(place.ref(role))
    kernel = weight.shape[1]
    padded = np.pad(rows.reshape(texts, positions, -1), ((0, 0), (kernel - 1, 0), (0, 0)))
    mixed = padded[:, :positions] * weight[:, 0]
    for step in range(1, kernel):
        mixed = mixed + padded[:, step : step + positions] * weight[:, step]
    bias = Ref(role, place.layer, "bias")
    if place.model.has(bias):
        mixed = mixed + place.model.vector(bias)
    found: Rows = mixed.astype(np.float32, copy=False).reshape(len(rows), -1)
    return found
