"""One command per file, by its name."""
