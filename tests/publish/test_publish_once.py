"""`run` lists the source once, however many of its stages need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.errors import Exit
from tests.publish.commanding import REPO, SOURCE, Run
from verify.report import read

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.hub.server import HubServer


def test_a_run_lists_the_source_once(
    run: Run, home: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = read(home / "artifacts" / "recipe" / "report.json")
    monkeypatch.setattr("verify.workflow.verify_artifacts", lambda *_, **__: report)
    ran = run("run", "recipe.yaml", "--json")
    assert (ran.code, len(ran.answer["repos"])) == (Exit.DONE, 1), ran.err
    assert REPO in server.repos
    listings = [each.path for each in server.log if each.path.startswith(f"/api/models/{SOURCE}")]
    assert len(listings) == 1, listings
