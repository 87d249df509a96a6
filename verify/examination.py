"""The examination of one artifact: each step adds checks and figures, and none can stop the next artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.child import ChildFailure, Fault
from convert.errors import Failure
from verify import files, gates
from verify.answerer import WorkerAnswerer
from verify.baseline import converse, describe, require_alive
from verify.gates import Check
from verify.parity import compare, read_profile
from verify.quality import quality
from verify.report import ArtifactResult
from verify.runtimes import RuntimeSettings, choose_runtime
from verify.sample import Spread
from verify.worker import Launch, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from verify.baseline import Baseline
    from verify.quality import Quality
    from verify.report import Opened, Scenarios
    from verify.sample import Measured
    from verify.workflow import Plan, Subject, Watch


class Examination:
    """One artifact's checks and figures so far."""

    def __init__(self, subject: Subject, plan: Plan, watch: Watch) -> None:
        self.name = subject.name
        self.launch = Launch("", subject.path)
        self.is_alive = False  # it was opened, and has not failed since in a way that ends a process
        self._subject, self._plan, self._watch = subject, plan, watch
        self._files = files.Files()
        self._checks: list[Check] = []
        self._opened: Opened | None = None
        self._other_runtimes: tuple[str, ...] = ()
        self._quality: Quality | None = None
        self._scenarios: Scenarios | None = None
        self._smoke_drop: float | None = None
        self._measured: Measured | None = None

    def look_at_files(self) -> None:
        """Check digests and headers; a damaged artifact is not opened."""
        self._watch.doing(self.name, "files")
        self._files = files.check_files(self._subject.path)
        self._checks += self._files.checks
        self._watch.found(self.result())

    def question(self, baseline: Baseline) -> None:
        """Open it, compare tokens, template and logits with the source's, and have the dialogues."""
        if not self._files.may_be_opened:
            return
        if self._files.size_bytes is not None:
            self._checks.append(gates.size_ratio(self._files.size_bytes, baseline.result.size_bytes))
        self._step("opens", "opening", lambda: self._open(baseline), limit="a runtime")

    def _open(self, baseline: Baseline) -> None:
        self._choose_runtime()
        with Worker(self.launch) as worker:
            self._question_open(worker, baseline)

    def _choose_runtime(self) -> None:
        plan, subject = self._plan, self._subject
        settings = RuntimeSettings(plan.context, plan.threads, dict(subject.options))
        format_name = self._files.manifest.format if self._files.manifest else None
        runtime, self._other_runtimes = choose_runtime(subject.path, format_name, subject.runtime)
        path = subject.path if isinstance(subject.path, str) else subject.path.absolute()
        self.launch = Launch(runtime, path, settings, plan.limits, subject.secret_names)

    def _question_open(self, worker: Worker, baseline: Baseline) -> None:
        self._opened = describe(worker)
        others = f", and so could {' or '.join(self._other_runtimes)}" if self._other_runtimes else ""
        why = f"{worker.info.runtime} opens it{others}"
        self._checks.append(Check("opens", worker.info.runtime, "a runtime", passed=True, why=why))
        can = worker.info.can
        if "tokenize" in can:
            self._step("parity", "tokens and template", lambda: self._compare_tokens(worker, baseline))
        if "logits" in can and worker.fault is None:
            self._step("quality", "logits", lambda: self._compare_logits(worker, baseline))
        if worker.fault is None:
            self._step("answers", "dialogues", lambda: self._have_dialogues(worker, baseline))
        self.is_alive = worker.fault is None

    def _step(self, name: str, what: str, step: Callable[[], None], limit: str | None = None) -> None:
        """Take a step; if it fails, that is a failed check of its name."""
        self._watch.doing(self.name, what)
        try:
            step()
        except ChildFailure as failure:
            self._checks.append(gates.failed(name, failure.fault))
        except Failure as failure:
            self._checks.append(Check(name, None, limit, passed=False, why=failure.message))
        self._watch.found(self.result())

    def _compare_tokens(self, worker: Worker, baseline: Baseline) -> None:
        found = read_profile(worker, tuple(baseline.profile.markup))
        self._checks += compare(found, baseline.profile)

    def _compare_logits(self, worker: Worker, baseline: Baseline) -> None:
        self._quality = quality(worker, baseline.reference)

    def _have_dialogues(self, worker: Worker, baseline: Baseline) -> None:
        answerer = WorkerAnswerer(worker, may_chat=baseline.profile.chats is not None)
        answers = converse(answerer, self._plan, self._watch, self.name)
        source = baseline.result.scenarios
        if answers is None or source is None:
            return
        self._scenarios = answers
        require_alive(worker)
        self._smoke_drop = source.smoke - answers.smoke
        count = len(answers.transcripts)
        why = f"{count} dialogues without a crash"
        self._checks.append(Check("answers", count, count, passed=True, why=why))

    def take_speed(self, figures: Measured | Fault) -> None:
        """Add the measurements that were taken in turns with the others."""
        if isinstance(figures, Fault):
            self._checks.append(gates.failed("speed", figures))
        else:
            self._measured = figures
        self._watch.found(self.result())

    def result(self) -> ArtifactResult:
        """Return everything so far, with the gates that can be judged."""
        target = self._files.manifest.target if self._files.manifest else ""
        limits, figures = gates.limits_for(self._subject.gates, target), self._figures()
        return ArtifactResult(
            name=self.name,
            manifest_sha256=self._files.manifest_sha256,
            size_bytes=self._files.size_bytes,
            checks=(*self._checks, *gates.judge(limits, figures)),
            unmeasured=gates.unmeasured(limits, figures) if self.is_alive else (),
            opened=self._opened,
            other_runtimes=self._other_runtimes,
            quality=self._quality,
            speed=self._measured.speed if self._measured else None,
            memory=self._measured.memory if self._measured else None,
            scenarios=self._scenarios,
        )

    def _figures(self) -> dict[str, float | None]:
        """Return the measurements by the gates' names."""
        found: dict[str, Any] = {"size_bytes": self._files.size_bytes, "smoke_drop": self._smoke_drop}
        measured = self._measured
        for part in (self._quality, measured and measured.speed, measured and measured.memory):
            found |= vars(part) if part else {}
        figures = {gate.name: found.get(gate.name) for gate in gates.GATES}
        return {
            name: figure.median if isinstance(figure, Spread) else figure
            for name, figure in figures.items()
            if figure is not None
        }
