"""The reference of commands has all that help has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.cli.app import COMMANDS
from tests.docs.commands import reference

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def test_the_reference_has_every_option_that_help_has(run: Run) -> None:
    text = reference()
    for name in COMMANDS:
        section = text.partition(f"### {name}\n")[2].partition("\n### ")[0]
        options = {word.strip(",") for word in run(name, "--help").out.split() if word.startswith("--")} - {
            "--help"
        }
        assert section
        assert all(option in section for option in options)


def test_every_option_says_what_it_does() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert rows
    assert all(len(row.split("|")[2].strip()) > 10 for row in rows)
