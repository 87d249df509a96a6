"""The README's section on commands is the one that the commands write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from convert.cli.app import COMMANDS
from convert.cli.reference import BEGIN, END, reference, written_into

if TYPE_CHECKING:
    from tests.cli.conftest import Run

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_has_every_command_and_option() -> None:
    """`python -m convert.cli.reference README.md` writes them again."""
    text = README.read_text(encoding="utf-8")
    assert text == written_into(text)


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


def test_a_file_without_markers_is_refused() -> None:
    with pytest.raises(click.UsageError, match="markers"):
        written_into("# no place for it\n")
    assert written_into(f"a\n{BEGIN}\nold\n{END}\nb\n") == f"a\n{BEGIN}\n{reference()}{END}\nb\n"
