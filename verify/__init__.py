"""Judge artifacts, whoever made them: open each in a runtime, question, measure, compare with the source.

`verify_artifacts` takes `Subject`s, their `Source` and a `Plan` of what to ask, and returns a `Report`; it
raises `Failure` where the source itself cannot be questioned. What fails in one artifact is a failed check
of the report. `convert.verify_recipe` does all of it for a recipe.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convert.errors import Failure as Failure
    from verify.baseline import Source as Source
    from verify.report import Report as Report
    from verify.runtimes import runtimes_for as runtimes_for
    from verify.task import Plan as Plan
    from verify.task import Subject as Subject
    from verify.workflow import verify_artifacts as verify_artifacts

# Where a name is defined that is only imported when somebody asks for it.
_PLACES = {
    "Failure": "convert.errors",
    "Plan": "verify.task",
    "Report": "verify.report",
    "Source": "verify.baseline",
    "Subject": "verify.task",
    "runtimes_for": "verify.runtimes",
    "verify_artifacts": "verify.workflow",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
