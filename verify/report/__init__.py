"""report.json: what was measured and judged, of exactly which bytes; written whole or not at all."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convert.errors import Failure
from convert.store.fault import explained, failure_from
from verify.gates import Check  # noqa: TC001 - pydantic reads the annotations
from verify.machine import Machine  # noqa: TC001
from verify.quality import Quality  # noqa: TC001
from verify.sample import Memory, Speed  # noqa: TC001
from verify.scenarios.score import Score  # noqa: TC001
from verify.scenarios.transcript import Transcript  # noqa: TC001

SCHEMA = 1
NAME = "report.json"
# Forty dialogues with a dozen artifacts make a few megabytes.
LARGEST_BYTES = 256 << 20


class _Record(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_by_name=True, validate_by_alias=True
    )


class Opened(_Record):
    """The runtime that opened a model, and what it said of it."""

    runtime: str
    versions: dict[str, str]
    notes: dict[str, str]
    context: int
    kv_bytes_per_token: int | None


class Scenarios(_Record):
    """How the dialogues went, and every word of them."""

    smoke: float  # the share of dialogues whose required checks all passed
    scores: tuple[Score, ...]
    transcripts: tuple[Transcript, ...]


class SourceResult(_Record):
    """The model that everything is compared with."""

    repo: str | None
    commit: str | None
    digest: str  # of the digests of all its files
    size_bytes: int
    opened: Opened | None
    scenarios: Scenarios | None


class ArtifactResult(_Record):
    """One artifact: what was found, and the verdict."""

    name: str
    manifest_sha256: str | None  # of the manifest, which holds every file's; none where there is no manifest
    size_bytes: int | None  # none of a server's
    checks: tuple[Check, ...]
    unmeasured: tuple[str, ...] = ()  # gates that this runtime gives no figure for
    opened: Opened | None = None
    quality: Quality | None = None
    speed: Speed | None = None
    memory: Memory | None = None
    scenarios: Scenarios | None = None

    @property
    def passed(self) -> bool:
        """Nothing failed, and something was looked at."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """What did not pass."""
        return tuple(check for check in self.checks if not check.passed)


class Report(_Record):
    """A recipe's artifacts, or those that were named, against one source on one machine."""

    schema_version: Annotated[int, Field(alias="schema")] = SCHEMA
    tool: str
    revision: int | None = None  # of the verification; reports of version 0.1.0 have none
    recipe: str | None
    recipe_sha256: str | None  # of what it asks for: its limits are those that were judged by
    machine: Machine
    text: str  # what quality was measured on
    source: SourceResult
    artifacts: tuple[ArtifactResult, ...]

    @property
    def passed(self) -> bool:
        """Every artifact did."""
        return bool(self.artifacts) and all(artifact.passed for artifact in self.artifacts)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with each verdict said as well."""
        content: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        for given, artifact in zip(content["artifacts"], self.artifacts, strict=True):
            given["passed"] = artifact.passed
            _say_verdicts(given, artifact)
        _say_verdicts(content["source"], self.source)
        return {**content, "passed": self.passed}


def _say_verdicts(content: dict[str, Any], result: ArtifactResult | SourceResult) -> None:
    """Each transcript's verdict follows from its checks; a program that reads the file need not know how."""
    if result.scenarios:
        transcripts = zip(content["scenarios"]["transcripts"], result.scenarios.transcripts, strict=True)
        for given, transcript in transcripts:
            given["passed"] = transcript.passed


def _without_verdicts(content: dict[str, Any]) -> dict[str, Any]:
    """What `as_dict` has added is left out again: it is not read, but follows."""
    content.pop("passed", None)
    for result in [*(content.get("artifacts") or ()), content.get("source") or {}]:
        result.pop("passed", None)
        for transcript in (result.get("scenarios") or {}).get("transcripts") or ():
            transcript.pop("passed", None)
    return content


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole: whoever reads meanwhile sees the old one or the new one."""
    data = content.encode() if isinstance(content, str) else content
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise failure_from(error, path) from error  # a person knows no name of a part
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_json(path: Path, report: Report) -> None:
    """Write report.json."""
    write(path, json.dumps(report.as_dict(), ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def read(path: Path) -> Report:
    """Read report.json back; one that is absent, damaged or of a later version is a Failure."""
    again = "`modelwright verify` writes it"
    with explained(path):
        if not path.is_file():
            raise Failure(f"{path}: no report there", again)
        if path.stat().st_size > LARGEST_BYTES:
            raise Failure(f"{path}: has {path.stat().st_size} bytes, which no report has", again)
        data = path.read_bytes()
    try:
        content = json.loads(data)
        schema = content.get("schema") if isinstance(content, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise Failure(
                f"{path}: schema {schema} is newer than this version knows ({SCHEMA})", "upgrade modelwright"
            )
        if schema != SCHEMA:
            raise Failure(f"{path}: is no report", again)
        return Report.model_validate(_without_verdicts(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Failure(f"{path}: {where}: {first['msg']}", again) from None
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise Failure(f"{path}: is no report ({error})", again) from None
