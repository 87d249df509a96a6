"""The canonical checkpoint in Transformers' layout."""
