"""The tensors of a checkpoint by name: read lazily, checked strictly, with nothing executed."""

from convert.checkpoint.floats import to_f32
from convert.checkpoint.quantized import open_checkpoint
from convert.checkpoint.reader import Checkpoint
from convert.checkpoint.tensor import TensorInfo

__all__ = ["Checkpoint", "TensorInfo", "open_checkpoint", "to_f32"]
