"""What a model is, whatever its source calls it."""
