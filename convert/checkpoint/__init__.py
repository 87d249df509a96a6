"""A checkpoint's tensors by name: read lazily, checked strictly, nothing in it executed."""

from convert.checkpoint.floats import to_f32
from convert.checkpoint.reader import Checkpoint, open_checkpoint
from convert.checkpoint.tensor import TensorInfo

__all__ = ["Checkpoint", "TensorInfo", "open_checkpoint", "to_f32"]
