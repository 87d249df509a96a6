"""MLX's checkpoints, as mlx-lm reads them."""
