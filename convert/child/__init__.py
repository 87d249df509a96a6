"""Isolated child processes: limits on time and memory, a clean environment, and a reason for every end.

A `Child` is a Python process of ours that answers calls: the verification worker, GPTQModel, chat templates.
`run` runs any other program once: a credential helper.
"""

from convert.child.client import Child
from convert.child.fault import ChildFailure, Fault, FaultKind, last_words
from convert.child.limits import Limits
from convert.child.memory import Peaks, available_memory
from convert.child.process import run

__all__ = [
    "Child",
    "ChildFailure",
    "Fault",
    "FaultKind",
    "Limits",
    "Peaks",
    "available_memory",
    "last_words",
    "run",
]
