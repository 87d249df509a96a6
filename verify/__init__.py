"""Opens an artifact in its own runtime, questions it, measures and judges it."""
