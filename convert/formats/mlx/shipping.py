"""How MLX's checkpoints are shipped, named as MLX's own repos are."""

from convert.formats.shipping import Guide, Shipping

SHIPPING = Shipping(
    label="MLX",
    suffix="MLX-{quant}",
    weights=r".*\.safetensors",
    tags=("mlx",),
    library="mlx",
    guides=(Guide("mlx/mlx-lm"), Guide("mlx/lm-studio")),
    favorite="4bit",
)
