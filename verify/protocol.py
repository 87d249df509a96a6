"""Arrays as the worker's messages carry them: described in the header, their bytes after it."""

import numpy as np
from numpy.typing import NDArray

from convert.child.channel import GarbledError, Header


def pack(array: NDArray[np.float32]) -> tuple[Header, memoryview]:
    """Describe an array for the header, and return its bytes."""
    flat = np.ascontiguousarray(array, dtype="<f4")
    return {"dtype": "<f4", "shape": list(flat.shape)}, memoryview(flat.data).cast("B")


def unpack(header: Header, payload: bytearray) -> NDArray[np.float32]:
    """Rebuild an array, trusting nothing that the header says about it."""
    shape = header.get("shape")
    if header.get("dtype") != "<f4" or not isinstance(shape, list) or len(shape) != 2:
        raise GarbledError("the message describes no matrix of float32")
    rows, columns = shape
    if not (isinstance(rows, int) and isinstance(columns, int) and rows >= 0 and columns >= 0):
        raise GarbledError("the message describes a matrix of no size")
    if rows * columns * 4 != len(payload):
        raise GarbledError(f"{rows} x {columns} float32 do not take {len(payload)} bytes")
    return np.frombuffer(payload, dtype="<f4").reshape(rows, columns)
