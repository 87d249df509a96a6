"""The checks that packs can ask for; a file here is found by being here."""

from __future__ import annotations

import importlib
from pathlib import Path

from verify.scenarios.checks.registry import CHECKS, Check, Seen, Verdict, bad, check, right

for _file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
    importlib.import_module(f"{__name__}.{_file.stem}")

__all__ = ["CHECKS", "Check", "Seen", "Verdict", "bad", "check", "right"]
