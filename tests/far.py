"""An array that numpy hands its functions to, as it does CuPy's, and that refuses to be mixed with numpy's.

So the code of a GPU runs where there is none, but for the kernels.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np

MAKING = ("asarray", "array", "arange")
METHODS = ("reshape", "copy", "astype", "swapaxes", "max", "min", "mean", "sum", "all", "any", "fill")


class Far(np.lib.mixins.NDArrayOperatorsMixin):
    """A device's array."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)

    def get(self) -> Any:
        return self._values

    def __array__(self, *_args: Any, **_named: Any) -> Any:
        raise TypeError("an array of a device was turned into one of numpy's")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        if "where" in named:
            raise TypeError("CuPy knows no where")
        return _far(getattr(ufunc, method)(*map(_near, inputs), **{k: _near(v) for k, v in named.items()}))

    def __array_function__(self, function: Any, _types: Any, args: Any, named: Any) -> Any:
        if function.__name__ in MAKING:  # with `like=`, which numpy takes away
            return Far(function(*map(_content, args), **named))
        return _far(function(*map(_near, args), **{k: _near(v) for k, v in named.items()}))

    def __getitem__(self, key: Any) -> Any:
        return Far(self._values[_near(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._values[_near(key)] = _near(value)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Any:
        return map(Far, self._values)

    def __float__(self) -> float:
        return float(self._values)

    def __int__(self) -> int:
        return int(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._values, name)
        if name in METHODS:
            return lambda *args, **named: _far(found(*map(_near, args), **named))
        return Far(found) if name == "T" else found


class Elsewhere:
    """A device of such arrays."""

    name = "elsewhere"
    held_bytes = states_bytes = 1 << 30

    def threads(self, cores: int) -> int:
        return cores

    def put(self, values: Any) -> Any:
        return values if isinstance(values, Far) else Far(values.copy())

    def strict(self) -> Any:
        return nullcontext()


def _content(value: Any) -> Any:
    return value._values if isinstance(value, Far) else value


def _near(value: Any) -> Any:
    if isinstance(value, Far):
        return value._values
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("arrays of numpy and of a device were mixed")
    if isinstance(value, (tuple, list)):
        return type(value)(_near(each) for each in value)
    return value


def _far(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return Far(value)
    if isinstance(value, (tuple, list)):
        return type(value)(_far(each) for each in value)
    return value
