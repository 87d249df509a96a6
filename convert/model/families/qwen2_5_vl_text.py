"""The text decoder of Qwen2.5-VL: that of Qwen2-VL, with another tower."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import qwen2_vl_text
from convert.model.towers import rotary_merger

CLASSES = ("Qwen2_5_VLForConditionalGeneration",)
NAMING = qwen2_vl_text.NAMING
TOKENIZER = qwen2_vl_text.TOKENIZER
GGUF = replace(qwen2_vl_text.GGUF, projector=rotary_merger.WINDOWED)
CANONICAL = qwen2_vl_text.CANONICAL
REFERENCE = qwen2_vl_text.REFERENCE
EXAMPLE = {**qwen2_vl_text.EXAMPLE, "architectures": list(CLASSES)}
VARIANTS = qwen2_vl_text.VARIANTS


def describe(config: Config) -> Decoder:
    """Read a config."""
    return replace(qwen2_vl_text.describe(config), graph="qwen2_5_vl_text")
