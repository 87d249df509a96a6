"""Scenarios: dialogues as YAML, checks as functions, transcripts and scores as what comes of them."""

from verify.scenarios.loading import load, names, read
from verify.scenarios.pack import Dialogue, Pack, Turn
from verify.scenarios.prompt import Answer, Answerer
from verify.scenarios.running import converse, run
from verify.scenarios.score import Score, scores, smoke
from verify.scenarios.transcript import Exchange, Outcome, Step, Transcript

__all__ = [
    "Answer",
    "Answerer",
    "Dialogue",
    "Exchange",
    "Outcome",
    "Pack",
    "Score",
    "Step",
    "Transcript",
    "Turn",
    "converse",
    "load",
    "names",
    "read",
    "run",
    "scores",
    "smoke",
]
