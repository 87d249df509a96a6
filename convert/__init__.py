"""From a recipe and a checkpoint to artifacts."""
