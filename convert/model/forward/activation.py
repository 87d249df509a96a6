"""Activations of MLPs, in place where they can be."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


def sigmoid(rows: Rows) -> Rows:
    """Map every number between zero and one; the argument stays."""
    share: Rows = np.float32(1) / (np.float32(1) + np.exp(-rows))
    return share


def silu(rows: Rows) -> Rows:
    """Weigh by a sigmoid."""
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


def _relu(rows: Rows) -> Rows:
    return np.maximum(rows, np.float32(0), out=rows)


ACTIVATIONS = {"silu": silu, "relu": _relu, "gelu": _gelu, "gelu_tanh": _gelu_tanh, "relu2": _relu2}
