"""report.json: the measurements and verdicts of exactly these bytes, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable  # noqa: TC003 - pydantic reads the annotations
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WrapSerializer

from convert.errors import Failure
from convert.store.fault import explained, failure_from
from convert.strict_json import parse
from verify.atomic import replacing
from verify.gates import Check  # noqa: TC001 - pydantic reads the annotations
from verify.harness import TaskScore  # noqa: TC001
from verify.load import LoadResult  # noqa: TC001
from verify.long_context import LongContext  # noqa: TC001
from verify.machine import Machine  # noqa: TC001
from verify.quality import Quality  # noqa: TC001
from verify.sample import Memory, Speed  # noqa: TC001
from verify.scenarios.score import Score  # noqa: TC001
from verify.scenarios.transcript import Transcript  # noqa: TC001
from verify.scope import Scope  # noqa: TC001

if TYPE_CHECKING:
    from verify.worker import Worker

SCHEMA = 1
Verdict = Literal["failed", "inconclusive", "passed"]  # the worst first
NAME = "report.json"
# Forty dialogues with a dozen artifacts make a few megabytes.
LARGEST_BYTES = 256 << 20


class _Record(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_by_name=True, validate_by_alias=True
    )


T = TypeVar("T")


def _without_verdict(content: Any) -> Any:
    said = ("passed", "verdict")
    return {key: content[key] for key in content if key not in said} if isinstance(content, dict) else content


def _with_verdict(value: Any, serialize: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    verdict = {"verdict": value.verdict} if isinstance(value, ArtifactResult) else {}
    return {**serialize(value), "passed": value.passed, **verdict}


# A verdict follows from the checks. It is written for other programs, and not read back.
Judged = Annotated[T, BeforeValidator(_without_verdict), WrapSerializer(_with_verdict)]


class Opened(_Record):
    """The runtime that opened a model, and its notes on it."""

    runtime: str
    versions: dict[str, str]
    notes: dict[str, str]
    context: int
    kv_bytes_per_token: int | None

    @classmethod
    def of(cls, worker: Worker) -> Opened:
        """Describe an open model's runtime."""
        info = worker.info
        return cls(
            runtime=info.runtime,
            versions=worker.versions,
            notes=dict(info.notes),
            context=info.context,
            kv_bytes_per_token=info.kv_bytes_per_token,
        )


class Copy(_Record):
    """A faster copy of the source, and whether it was asked in the source's place."""

    is_asked: bool = False
    why: str = ""
    opened: Opened | None = None
    kl_mean: float | None = None  # from the source's odds, in nats
    kl_max: float | None = None
    positions: int = 0  # that were compared


class Scenarios(_Record):
    """The dialogues, and their scores."""

    smoke: float  # the share of dialogues whose required checks all passed
    scores: tuple[Score, ...]
    transcripts: tuple[Judged[Transcript], ...]


class SourceResult(_Record):
    """The model that everything is compared with."""

    repo: str | None
    commit: str | None
    digest: str  # of the digests of all its files
    size_bytes: int
    opened: Opened | None
    scenarios: Scenarios | None
    adapter: str | None = None  # the LoRA adapter that was put on it: a repo at a commit, or a local folder
    speed: Speed | None = None  # measured in turns with the artifacts'; None where its weights stay on disk
    memory: Memory | None = None
    answered_by: Copy | None = None  # None where the source itself was asked, and no copy was tried


class QuantizedSource(_Record):
    """The source as a library quantizes it when it opens it: to compare artifacts with, and never gated."""

    name: str
    why: str | None = None  # a figure is missing
    opened: Opened | None = None
    quality: Quality | None = None
    speed: Speed | None = None
    memory: Memory | None = None


class ArtifactResult(_Record):
    """One artifact's checks and measurements."""

    name: str
    manifest_sha256: str | None  # of the manifest, which has every file's; None without a manifest
    size_bytes: int | None  # None for a server
    checks: tuple[Check, ...]
    limits_of: Literal["recipe", "default"] | None = None  # older reports have none
    unmeasured: tuple[str, ...] = ()  # gates that are set, and that nothing could be measured for
    opened: Opened | None = None
    other_runtimes: tuple[str, ...] = ()  # that could have opened it too
    quality: Quality | None = None
    long_context: LongContext | None = None
    tasks: tuple[TaskScore, ...] = ()  # of lm-evaluation-harness
    speed: Speed | None = None
    load: tuple[LoadResult, ...] = ()  # of a server
    memory: Memory | None = None
    scenarios: Scenarios | None = None
    # Share of each tensor's output that its rounding lost on the calibration text, as the manifest says.
    output_errors: dict[str, float] = {}
    # The type of each tensor, where a budget chose it, as the manifest says.
    chosen_types: dict[str, str] = {}

    @property
    def passed(self) -> bool:
        """Return whether something was checked, nothing failed, and every gate that is set was measured."""
        return self.verdict == "passed"

    @property
    def verdict(self) -> Verdict:
        """Return the verdict; a gate without a measurement has neither passed nor failed."""
        if not self.checks or self.failures:
            return "failed"
        return "inconclusive" if self.unmeasured else "passed"

    @property
    def failures(self) -> tuple[Check, ...]:
        """Return the checks that failed."""
        return tuple(check for check in self.checks if not check.passed)


class Report(_Record):
    """A recipe's artifacts, or those that were named, against one source on one machine."""

    schema_version: Annotated[int, Field(alias="schema")] = SCHEMA
    tool: str
    revision: int | None = None  # of the verification; reports of version 0.1.0 have none
    recipe: str | None
    recipe_sha256: str | None  # of the parts that decide, its limits among them
    machine: Machine
    text: str  # that quality was measured on
    scope: Scope | None = None  # how much was asked; older reports have none, and everything was
    source: SourceResult
    baselines: tuple[QuantizedSource, ...] = ()  # older reports have none
    artifacts: tuple[Judged[ArtifactResult], ...]

    @property
    def passed(self) -> bool:
        """Return whether every artifact passed."""
        return self.verdict == "passed"

    @property
    def verdict(self) -> Verdict:
        """Return the worst verdict of all."""
        found = {artifact.verdict for artifact in self.artifacts} or {"failed"}
        return next(each for each in get_args(Verdict) if each in found)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, verdicts included."""
        return {**self.model_dump(mode="json", by_alias=True), "passed": self.passed, "verdict": self.verdict}


def write(path: Path, content: str | bytes) -> None:
    """Replace a file whole, so that a reader sees the old one or the new one."""
    data = content.encode() if isinstance(content, str) else content
    with explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise failure_from(error, path) from error  # users do not know the part's name


def write_json(path: Path, report: Report) -> None:
    """Write report.json."""
    write(path, json.dumps(report.as_dict(), ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def others(folder: Path) -> dict[Path, Report]:
    """Read the reports of further classes of nodes by path; each has its class in its recipe's name."""
    paths = sorted((folder / "reports").glob(f"*/{NAME}"))
    found = {path: read(path) for path in paths}
    return {
        path: report.model_copy(update={"recipe": f"{report.recipe} on {path.parent.name}"})
        for path, report in found.items()
    }


def _parsed(data: bytes) -> Any:
    try:
        return parse(data, "it", "")
    except Failure as failure:
        raise ValueError(failure.message) from failure


def read(path: Path) -> Report:
    """Read report.json; refuse one that is absent, damaged or of a later version."""
    again = "`modelwright verify` writes it"
    with explained(path):
        if not path.is_file():
            raise Failure(f"{path}: no report there", again)
        if path.stat().st_size > LARGEST_BYTES:
            raise Failure(f"{path}: has {path.stat().st_size} bytes, too many for a report", again)
        data = path.read_bytes()
    try:
        content = _parsed(data)
        schema = content.get("schema") if isinstance(content, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise Failure(
                f"{path}: schema {schema} is newer than this version knows ({SCHEMA})", "upgrade modelwright"
            )
        if schema != SCHEMA:
            raise Failure(f"{path}: is no report", again)
        return Report.model_validate(_without_verdict(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Failure(f"{path}: {where}: {first['msg']}", again) from None
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise Failure(f"{path}: is no report ({error})", again) from None
