"""The walk-throughs of CONTRIBUTING.md: the files that each has a newcomer write, and the commands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.docs.fence import FENCE
from tests.docs.parts import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = ROOT / "CONTRIBUTING.md"


@dataclass(frozen=True)
class Walk:
    """Files by their paths, and commands in their order."""

    files: Mapping[str, str]
    commands: str


def walk(title: str) -> Walk:
    """Read the section of this title."""
    section = PAGE.read_text("utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    files, commands = {}, ""
    for language, text in FENCE.findall(section):
        path, _, content = text.partition("\n")
        if language == "sh":
            commands += text
        elif found := re.fullmatch(r"# ([\w./-]+)", path):
            files[found[1]] = content
    return Walk(files, commands)
