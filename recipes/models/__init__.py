"""The tiny models and what makes them."""
