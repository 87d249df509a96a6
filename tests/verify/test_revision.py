"""A verification's questions, checks and measurements change only together with its revision."""

from __future__ import annotations

import json

from tests.verify import golden
from verify.revision import REVISION


def test_other_questions_or_measurements_are_another_revision() -> None:
    recorded, found = golden.read(), json.loads(json.dumps(golden.found()))
    revision = recorded.pop("revision")
    changed = sorted(part for part in {*recorded, *found} if recorded.get(part) != found.get(part))
    assert not changed, (
        f"{', '.join(changed)} changed: bump REVISION in verify/revision.py and record them with "
        f"`{golden.COMMAND}`"
    )
    assert revision == REVISION, f"record the revision: {golden.COMMAND}"
