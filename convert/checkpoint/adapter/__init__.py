"""LoRA adapters as PEFT saves them, merged into a checkpoint's rows while these are read."""

from convert.checkpoint.adapter.file import Adapter, open_adapter
from convert.checkpoint.adapter.merge import AdaptedCheckpoint, Stack, adapt
from convert.checkpoint.adapter.names import Names
from convert.checkpoint.adapter.tied import Tied, is_untying

__all__ = ["AdaptedCheckpoint", "Adapter", "Names", "Stack", "Tied", "adapt", "is_untying", "open_adapter"]
