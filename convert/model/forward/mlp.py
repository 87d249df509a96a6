"""MLPs of the forward pass: one for all tokens, or a few of many."""

import numpy as np
from numpy.typing import NDArray

from convert.device import tile_of
from convert.model.decoder import Dense, Experts, Mlp, Role
from convert.model.forward.activation import ACTIVATIONS, sigmoid, silu
from convert.model.forward.place import Place, Rows
from convert.model.mlp import CLAMPED_ALPHA, CLAMPED_BETA

# Tokens that a thread activates at once.
ACTIVATED = 256


def widen(place: Place, mlp: Mlp, rows: Rows) -> Rows:
    """Pass some tokens through the wide inner layer."""
    if isinstance(mlp, Experts):
        return _experts(place, mlp, rows)
    if isinstance(mlp, Dense):
        return _dense(place, mlp, rows)
    raise TypeError("another MLP is refused where a conversion is planned")


def _dense(place: Place, mlp: Dense, rows: Rows) -> Rows:
    activate = ACTIVATIONS[mlp.activation]
    roles = (Role.MLP_GATE, Role.MLP_UP) if mlp.has_gate else (Role.MLP_UP,)
    *gate, inner = place.multiply(roles, rows)
    step = tile_of(inner, ACTIVATED)

    def apply(first: int) -> None:
        here = slice(first, first + step)
        with np.errstate(all="ignore"):
            if gate:
                inner[here] *= activate(gate[0][here])
            else:
                inner[here] = activate(inner[here])

    for _done in place.model.pool.map(apply, range(0, len(inner), step)):
        pass
    return place.multiply((Role.MLP_DOWN,), inner)[0]


def _experts(place: Place, mlp: Experts, rows: Rows) -> Rows:
    (scores,) = place.multiply((Role.ROUTER,), rows)
    which, shares = _choose(place, mlp, scores)
    given = rows
    if mlp.latent_size:
        (given,) = place.multiply((Role.EXPERT_NARROW,), rows)
    out = np.zeros_like(given)
    for expert in range(mlp.count):
        tokens, slots = np.nonzero(which == expert)
        if not len(tokens):
            continue
        roles = (Role.EXPERT_GATE, Role.EXPERT_UP) if mlp.has_gate else (Role.EXPERT_UP,)
        refs, down = tuple(place.ref(role, expert) for role in roles), place.ref(Role.EXPERT_DOWN, expert)
        taken = given[tokens]
        place.observe(refs, taken)
        inner = _inner(mlp, *(place.model.linear(ref, taken) for ref in refs))
        place.observe((down,), inner)
        out[tokens] += place.model.linear(down, inner) * shares[tokens, slots, None]
    if mlp.latent_size:
        (out,) = place.multiply((Role.EXPERT_WIDE,), out)
    if mlp.shared_size:
        out += _shared(place, mlp, rows)
    return out


def _inner(mlp: Experts, gate: Rows, inner: Rows | None = None) -> Rows:
    if inner is None:
        return ACTIVATIONS[mlp.activation](gate)
    if mlp.activation != "swiglu_clamped":
        activated: Rows = ACTIVATIONS[mlp.activation](gate) * inner
        return activated
    if mlp.limit is not None:
        gate, inner = np.minimum(gate, mlp.limit), np.clip(inner, -mlp.limit, mlp.limit)
    weighed: Rows = gate * sigmoid(np.float32(CLAMPED_ALPHA) * gate) * (inner + np.float32(CLAMPED_BETA))
    return weighed


def _choose(place: Place, mlp: Experts, scores: Rows) -> tuple[NDArray[np.intp], Rows]:
    """Choose each token's experts, and weigh them: (tokens, used) and (tokens, used)."""
    if mlp.routing == "sigmoid":
        weights = sigmoid(scores)
    else:
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
    ranked = weights
    if mlp.has_selection_bias:
        ranked = weights + place.model.vector(place.ref(Role.ROUTER_SELECTION))
    if mlp.group_count > 1:
        ranked = _in_groups(mlp, ranked)
    which = np.argsort(-ranked, axis=1, kind="stable")[:, : mlp.used_count]
    shares = np.take_along_axis(weights, which, axis=1)
    if mlp.is_normalized or mlp.routing == "softmax_chosen":
        shares = shares / shares.sum(axis=1, keepdims=True)
    return which, (shares * np.float32(mlp.scale)).astype(np.float32, copy=False)


def _in_groups(mlp: Experts, ranked: Rows) -> Rows:
    """Leave only the experts of the best groups in the race."""
    groups = ranked.reshape(len(ranked), mlp.group_count, -1)
    best = np.sort(groups, axis=2)[:, :, -2:].sum(axis=2) if mlp.is_group_of_two else groups.max(axis=2)
    kept = np.argsort(-best, axis=1, kind="stable")[:, : mlp.used_group_count]
    left = np.full_like(groups, -np.inf)
    np.put_along_axis(left, kept[..., None], np.take_along_axis(groups, kept[..., None], axis=1), axis=1)
    return left.reshape(ranked.shape)


def _shared(place: Place, mlp: Experts, rows: Rows) -> Rows:
    """Pass tokens through the experts that see every one."""
    if mlp.has_gate:
        gate, inner = place.multiply((Role.SHARED_GATE, Role.SHARED_UP), rows)
        inner *= silu(gate)
    else:
        inner = ACTIVATIONS[mlp.activation](place.multiply((Role.SHARED_UP,), rows)[0])
    (out,) = place.multiply((Role.SHARED_DOWN,), inner)
    if mlp.has_shared_router:
        (score,) = place.multiply((Role.SHARED_ROUTER,), rows)
        out *= sigmoid(score)
    return out
