"""SigLIP, whose rows a projection averages and turns into those of a text decoder."""

import math
from collections.abc import Iterator

from convert.model.config import Config
from convert.model.family import VISION
from convert.model.projector import Projector, Tensor


def _projector_keys(config: Config, preprocessor: Config) -> dict[str, object]:
    vision = _vision(config)
    side = math.isqrt(config.size("mm_tokens_per_image", default=256))
    merged = vision.size("image_size") // vision.size("patch_size") // side
    text = config.section("text_config") or config
    return {
        "has_vision_encoder": True,
        "projector_type": "gemma3",
        "use_gelu": True,
        "vision.projection_dim": text.size("hidden_size"),
        "vision.image_size": vision.size("image_size"),
        "vision.patch_size": vision.size("patch_size"),
        "vision.embedding_length": vision.size("hidden_size"),
        "vision.feed_forward_length": vision.size("intermediate_size"),
        "vision.block_count": vision.size("num_hidden_layers"),
        "vision.attention.head_count": vision.size("num_attention_heads"),
        "vision.attention.layer_norm_epsilon": vision.real("layer_norm_eps", default=1e-6),
        "vision.image_mean": list(preprocessor.reals("image_mean")) or [0.5] * 3,
        "vision.image_std": list(preprocessor.reals("image_std")) or [0.5] * 3,
        # Left out, the graph joins four patches in each direction.
        **({"vision.projector.scale_factor": merged} if merged != 4 else {}),
    }


def _vision(config: Config) -> Config:
    return config.section("vision_config") or Config({}, f"{config.where}: vision_config")


def _tower(config: Config, stem: str, outer: str = "") -> Iterator[Tensor]:
    """List the tensors of a SigLIP tower and of what projects its rows."""
    vision = _vision(config)
    hidden, inner = vision.size("hidden_size"), vision.size("intermediate_size")
    patch, channels = vision.size("patch_size"), vision.size("num_channels", default=3)
    places = (vision.size("image_size") // patch) ** 2
    text = config.section("text_config") or config
    at, there = "v.patch_embd", f"{stem}embeddings.patch_embedding"
    yield Tensor(f"{at}.weight", f"{there}.weight", (hidden, channels, patch, patch), "F32")
    yield Tensor(f"{at}.bias", f"{there}.bias", (hidden,), "F32")
    there = f"{stem}embeddings.position_embedding.weight"
    yield Tensor("v.position_embd.weight", there, (places, hidden), "F32")
    shapes = {
        ("ln1", "layer_norm1"): (hidden,),
        ("attn_q", "self_attn.q_proj"): (hidden, hidden),
        ("attn_k", "self_attn.k_proj"): (hidden, hidden),
        ("attn_v", "self_attn.v_proj"): (hidden, hidden),
        ("attn_out", "self_attn.out_proj"): (hidden, hidden),
        ("ln2", "layer_norm2"): (hidden,),
        ("ffn_up", "mlp.fc1"): (inner, hidden),
        ("ffn_down", "mlp.fc2"): (hidden, inner),
    }
    for layer in range(vision.size("num_hidden_layers")):
        for (name, source), shape in shapes.items():
            at, there = f"v.blk.{layer}.{name}", f"{stem}encoder.layers.{layer}.{source}"
            yield Tensor(f"{at}.weight", f"{there}.weight", shape, "F16" if len(shape) > 1 else "F32")
            yield Tensor(f"{at}.bias", f"{there}.bias", shape[:1], "F32")
    yield Tensor("v.post_ln.weight", f"{stem}post_layernorm.weight", (hidden,), "F32")
    yield Tensor("v.post_ln.bias", f"{stem}post_layernorm.bias", (hidden,), "F32")
    there, wide = f"{outer}multi_modal_projector.", (hidden, text.size("hidden_size"))
    yield Tensor("mm.input_projection.weight", f"{there}mm_input_projection_weight", wide, "F16")
    there += "mm_soft_emb_norm.weight"
    yield Tensor("mm.soft_emb_norm.weight", there, (hidden,), "F32", is_offset=True)


PROJECTOR = Projector(
    part=VISION,
    keys=_projector_keys,
    spellings=(
        lambda config: _tower(config, "vision_tower.vision_model."),
        lambda config: _tower(config, "vision_tower."),
        lambda config: _tower(config, "model.vision_tower.vision_model.", "model."),
        lambda config: _tower(config, "model.vision_tower.", "model."),
    ),
)
