"""The checks that packs can name; every file in this folder is imported."""

import importlib
from pathlib import Path

from verify.scenarios.checks.registry import CHECKS, Check, Context, Verdict, bad, check, right

for _file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
    importlib.import_module(f"{__name__}.{_file.stem}")

__all__ = ["CHECKS", "Check", "Context", "Verdict", "bad", "check", "right"]
