"""Scenarios: dialogues as YAML, checks as functions, transcripts and scores as their results."""

from verify.scenarios.loading import load, names, read

__all__ = ["load", "names", "read"]
