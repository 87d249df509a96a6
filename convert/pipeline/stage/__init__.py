"""The stages: each file is one, a function that takes the frozen value and returns it with more in it."""
