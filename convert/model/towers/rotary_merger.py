"""The older towers for pictures of any size, whose heads turn by a patch's row and column."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from convert.errors import Failure
from convert.model.config import Config
from convert.model.family import VISION
from convert.model.projector import Projector, Tensor

# What the graph has built in: frames of a film read together, patches joined in each direction, the side of
# a window in pixels, the epsilon of norms.
FRAMES, MERGED, WINDOW, EPSILON = 2, 2, 112, 1e-6
IMAGE_SIZE = 560  # of which the graph makes no use
THIRDS = ("attn_q", "attn_k", "attn_v")


def _vision(config: Config) -> Config:
    return config.section("vision_config") or Config({}, f"{config.where}: vision_config")


def _require(vision: Config, key: str, wanted: object) -> None:
    """Refuse another value than the one that the graph takes for granted."""
    if (found := vision.values.get(key, wanted)) != wanted:
        raise Failure(
            f"{vision.where}: {key} {found} has no place in a projector file",
            f"leave gguf.mmproj out: llama.cpp's graph knows {wanted}",
        )


def _keys(
    config: Config, preprocessor: Config, kind: str, hidden: str, inner: str, **own: Any
) -> dict[str, Any]:
    vision, text = _vision(config), config.section("text_config") or config
    _require(vision, "spatial_merge_size", MERGED)
    return {
        "has_vision_encoder": True,
        "projector_type": kind,
        "vision.projection_dim": text.size("hidden_size"),
        "vision.image_size": vision.size("image_size", default=IMAGE_SIZE),
        "vision.patch_size": vision.size("patch_size"),
        "vision.embedding_length": vision.size(hidden),
        "vision.feed_forward_length": vision.size(inner),
        "vision.block_count": vision.size("depth"),
        "vision.attention.head_count": vision.size("num_heads"),
        "vision.attention.layer_norm_epsilon": EPSILON,
        "vision.image_mean": list(preprocessor.reals("image_mean")) or [0.5] * 3,
        "vision.image_std": list(preprocessor.reals("image_std")) or [0.5] * 3,
        **own,
    }


def _plain_keys(config: Config, preprocessor: Config) -> dict[str, Any]:
    _require(_vision(config), "hidden_act", "quick_gelu")
    # llama.cpp's converter takes the width of what comes out for that of the MLPs; its graph reads neither.
    return _keys(config, preprocessor, "qwen2vl_merger", "embed_dim", "hidden_size")


def _window_keys(config: Config, preprocessor: Config) -> dict[str, Any]:
    vision = _vision(config)
    _require(vision, "hidden_act", "silu")
    _require(vision, "window_size", WINDOW)
    whole = [int(block) for block in vision.reals("fullatt_block_indexes")]
    period = whole[0] + 1 if whole else 0
    if not period or whole != list(range(period - 1, vision.size("depth"), period)):
        raise Failure(
            f"{vision.where}: fullatt_block_indexes {whole} has no place in a projector file",
            "leave gguf.mmproj out: llama.cpp's graph knows one block of every so many, the last of each",
        )
    own = {"use_silu": True, "vision.n_wa_pattern": period}
    return _keys(config, preprocessor, "qwen2.5vl_merger", "hidden_size", "intermediate_size", **own)


def _plain_tower(config: Config, stem: str) -> Iterator[Tensor]:
    vision = _vision(config)
    hidden = vision.size("embed_dim")
    inner = int(hidden * vision.real("mlp_ratio", default=4))
    mlp = {("ffn_up", "fc1"): (inner, hidden), ("ffn_down", "fc2"): (hidden, inner)}
    yield from _tower(config, stem, hidden, mlp, has_norm_bias=True)


def _window_tower(config: Config, stem: str) -> Iterator[Tensor]:
    vision = _vision(config)
    hidden, inner = vision.size("hidden_size"), vision.size("intermediate_size")
    mlp = {
        ("ffn_gate", "gate_proj"): (inner, hidden),
        ("ffn_up", "up_proj"): (inner, hidden),
        ("ffn_down", "down_proj"): (hidden, inner),
    }
    yield from _tower(config, stem, hidden, mlp, has_norm_bias=False)


def _tower(
    config: Config,
    stem: str,
    hidden: int,
    mlp: dict[tuple[str, str], tuple[int, int]],
    *,
    has_norm_bias: bool,
) -> Iterator[Tensor]:
    """List the tensors of the tower, and of what merges its rows into those of the text decoder."""
    vision, text = _vision(config), config.section("text_config") or config
    _require(vision, "temporal_patch_size", FRAMES)
    patch, channels = vision.size("patch_size"), vision.size("in_channels", "in_chans", default=3)
    for frame in range(FRAMES):
        name = f"v.patch_embd.weight{f'.{frame}' if frame else ''}"
        square = (hidden, channels, patch, patch)
        yield Tensor(name, f"{stem}patch_embed.proj.weight", square, "F16", frame=(frame, FRAMES))

    def linear(
        name: str, source: str, shape: tuple[int, int], share: tuple[int, int] = (0, 1)
    ) -> Iterator[Tensor]:
        yield Tensor(f"{name}.weight", f"{stem}{source}.weight", shape, "F16", share=share)
        yield Tensor(f"{name}.bias", f"{stem}{source}.bias", shape[:1], "F32", share=share)

    def norm(name: str, source: str) -> Iterator[Tensor]:
        for part in ("weight", "bias") if has_norm_bias else ("weight",):
            yield Tensor(f"{name}.{part}", f"{stem}{source}.{part}", (hidden,), "F32")

    for block in range(vision.size("depth")):
        at, there = f"v.blk.{block}", f"blocks.{block}"
        yield from norm(f"{at}.ln1", f"{there}.norm1")
        for number, name in enumerate(THIRDS):
            yield from linear(f"{at}.{name}", f"{there}.attn.qkv", (hidden, hidden), (number, len(THIRDS)))
        yield from linear(f"{at}.attn_out", f"{there}.attn.proj", (hidden, hidden))
        yield from norm(f"{at}.ln2", f"{there}.norm2")
        for (name, source), shape in mlp.items():
            yield from linear(f"{at}.{name}", f"{there}.mlp.{source}", shape)
    merged = hidden * MERGED**2
    yield from norm("v.post_ln", "merger.ln_q")
    yield from linear("mm.0", "merger.mlp.0", (merged, merged))
    yield from linear("mm.2", "merger.mlp.2", (text.size("hidden_size"), merged))


STEMS = ("visual.", "model.visual.")
PLAIN = Projector(VISION, _plain_keys, tuple(partial(_plain_tower, stem=stem) for stem in STEMS))
WINDOWED = Projector(VISION, _window_keys, tuple(partial(_window_tower, stem=stem) for stem in STEMS))
