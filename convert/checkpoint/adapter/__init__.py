"""LoRA adapters as PEFT saves them, merged into a checkpoint's rows while these are read."""

from convert.checkpoint.adapter.file import CONFIG_NAME, WEIGHT_NAMES, Adapter, open_adapter
from convert.checkpoint.adapter.merge import AdaptedCheckpoint, Names, Stack, Tied, adapt, is_untying

__all__ = [
    "CONFIG_NAME",
    "WEIGHT_NAMES",
    "AdaptedCheckpoint",
    "Adapter",
    "Names",
    "Stack",
    "Tied",
    "adapt",
    "is_untying",
    "open_adapter",
]
