"""A tower for pictures and films of any size, whose neighboring patches a merger joins."""

import math
from collections.abc import Iterator
from typing import Any

from convert.errors import Failure
from convert.model.config import Config
from convert.model.family import VISION
from convert.model.projector import Projector, Tensor

FRAMES = 2  # of a film that are read together; the graph has a convolution for each


def _vision(config: Config) -> Config:
    return config.section("vision_config") or Config({}, f"{config.where}: vision_config")


def _projector_keys(config: Config, preprocessor: Config) -> dict[str, Any]:
    vision, text = _vision(config), config.section("text_config") or config
    depth, patch = vision.size("depth"), vision.size("patch_size")
    lifted = {int(layer) for layer in vision.reals("deepstack_visual_indexes")}
    return {
        "has_vision_encoder": True,
        "projector_type": "qwen3vl_merger",
        "use_gelu": True,
        "vision.projection_dim": text.size("hidden_size"),
        "vision.image_size": math.isqrt(vision.size("num_position_embeddings", default=2304)) * patch,
        "vision.patch_size": patch,
        "vision.embedding_length": vision.size("hidden_size"),
        "vision.feed_forward_length": vision.size("intermediate_size"),
        "vision.block_count": depth,
        "vision.attention.head_count": vision.size("num_heads"),
        "vision.attention.layer_norm_epsilon": text.real("rms_norm_eps", default=1e-6),
        "vision.spatial_merge_size": vision.size("spatial_merge_size", default=2),
        "vision.image_mean": list(preprocessor.reals("image_mean")) or [0.5] * 3,
        "vision.image_std": list(preprocessor.reals("image_std")) or [0.5] * 3,
        "vision.is_deepstack_layers": [layer in lifted for layer in range(depth)],
    }


def _tower(config: Config, stem: str) -> Iterator[Tensor]:
    """List the tensors of the tower, and of what merges its rows into those of the text decoder."""
    vision, text = _vision(config), config.section("text_config") or config
    hidden, inner = vision.size("hidden_size"), vision.size("intermediate_size")
    patch, channels = vision.size("patch_size"), vision.size("in_channels", default=3)
    merged = hidden * vision.size("spatial_merge_size", default=2) ** 2
    out = vision.size("out_hidden_size", default=text.size("hidden_size"))
    if (frames := vision.size("temporal_patch_size", default=FRAMES)) != FRAMES:
        raise Failure(
            f"{vision.where}: temporal_patch_size {frames} has no place in a projector file",
            f"leave gguf.mmproj out: llama.cpp's graph knows {FRAMES}",
        )
    for frame in range(FRAMES):
        name = f"v.patch_embd.weight{f'.{frame}' if frame else ''}"
        square = (hidden, channels, patch, patch)
        yield Tensor(name, f"{stem}patch_embed.proj.weight", square, "F16", frame=(frame, FRAMES))
    yield Tensor("v.patch_embd.bias", f"{stem}patch_embed.proj.bias", (hidden,), "F32")
    places = (vision.size("num_position_embeddings", default=2304), hidden)
    yield Tensor("v.position_embd.weight", f"{stem}pos_embed.weight", places, "F32")
    modules: list[tuple[str, str, tuple[int, ...]]] = []
    for block in range(vision.size("depth")):
        at, there = f"v.blk.{block}", f"blocks.{block}"
        modules += [
            (f"{at}.ln1", f"{there}.norm1", (hidden,)),
            (f"{at}.attn_qkv", f"{there}.attn.qkv", (3 * hidden, hidden)),
            (f"{at}.attn_out", f"{there}.attn.proj", (hidden, hidden)),
            (f"{at}.ln2", f"{there}.norm2", (hidden,)),
            (f"{at}.ffn_up", f"{there}.mlp.linear_fc1", (inner, hidden)),
            (f"{at}.ffn_down", f"{there}.mlp.linear_fc2", (hidden, inner)),
        ]
    modules.append(("v.post_ln", "merger.norm", (hidden,)))
    modules.append(("mm.0", "merger.linear_fc1", (merged, merged)))
    modules.append(("mm.2", "merger.linear_fc2", (out, merged)))
    for number, layer in enumerate(vision.reals("deepstack_visual_indexes")):
        at, there = f"v.deepstack.{int(layer)}", f"deepstack_merger_list.{number}"
        modules.append((f"{at}.norm", f"{there}.norm", (merged,)))
        modules.append((f"{at}.fc1", f"{there}.linear_fc1", (merged, merged)))
        modules.append((f"{at}.fc2", f"{there}.linear_fc2", (out, merged)))
    for name, source, shape in modules:
        yield Tensor(f"{name}.weight", f"{stem}{source}.weight", shape, "F16" if len(shape) > 1 else "F32")
        yield Tensor(f"{name}.bias", f"{stem}{source}.bias", shape[:1], "F32")


PROJECTOR = Projector(
    part=VISION,
    keys=_projector_keys,
    spellings=(
        lambda config: _tower(config, "model.visual."),
        lambda config: _tower(config, "visual."),
    ),
)
