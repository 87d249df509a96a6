"""The examination of one artifact: each step adds checks and figures, and none can stop the next artifact."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.child import ChildFailure, Fault
from convert.errors import Failure
from verify import files, gates, measure
from verify.answerer import WorkerAnswerer
from verify.baseline import Baseline, converse, require_alive
from verify.counts import compare_counts
from verify.forecast import Forecast
from verify.gates import Check
from verify.harness import against, task_drop
from verify.judgment import figures, smoke_drop
from verify.load import LoadPlan, launch_for, load_check, measure_load
from verify.logprobs import Comparison, Reference, Windows, compare_logits
from verify.long_context import LongText, ask_long, launch_for_long
from verify.parity import compare, read_profile
from verify.pilot import Rates, pilot
from verify.quality import quality_of
from verify.report import ArtifactResult, Opened
from verify.resume import Kept
from verify.runtimes import Info, RuntimeSettings, choose_runtime
from verify.sample import Measured
from verify.servers import choose_server
from verify.task import Plan, Subject, Watch
from verify.worker import Launch, Opener, Worker

if TYPE_CHECKING:
    from verify.scope import Scope


class Examination:
    """One artifact's checks and figures so far."""

    def __init__(self, subject: Subject, plan: Plan, watch: Watch | Forecast) -> None:
        self.name = subject.name
        self.launch = Launch("", subject.path)
        self._can: tuple[str, ...] = ()
        self.is_alive = False  # it was opened, and has not failed since in a way that ends a process
        self._subject, self._plan = subject, plan
        self._kept = Kept(plan.cache, subject)
        self._watch = watch if isinstance(watch, Forecast) else Forecast(watch)
        self._files = files.Files()
        self._resources = ExitStack()
        self._waiting: Worker | None = None  # open since it was measured
        self._checks: list[Check] = []
        self._smoke_drop: float | None = None
        self._others: tuple[str, ...] = ()
        self._odds: tuple[Comparison, Info] | None = None
        self._scope: Scope | None = None  # what was asked, once that is known
        self._found: dict[str, Any] = {}  # the result's other fields, as far as they are known

    @property
    def server(self) -> str | None:
        """Name the server that is started for it, which takes longer than a model takes to open."""
        return self._subject.server

    def forget(self) -> None:
        """Remove what an interrupted verification would go on from."""
        self._kept.forget()

    def close(self) -> None:
        """Remove what was made to open it."""
        self._resources.close()

    def look_at_files(self) -> None:
        """Check digests and headers; a damaged artifact is not opened."""
        self._watch.doing(self.name, "files")
        self._files = files.check_files(self._subject.path)
        self._checks += self._files.checks
        self._watch.found(self.result())

    def look_again(self) -> None:
        """Check that what was measured is still there."""
        path, known = self._subject.path, self._files.manifest_sha256
        if known and isinstance(path, Path) and (changed := files.check_rebuilt(path, known)):
            self._checks = [changed, *(each for each in self._checks if each.name != changed.name)]

    def question(self, baseline: Baseline) -> None:
        """Open it, compare tokens, template and logits with the source's, and have the dialogues."""
        self._scope = baseline.scope
        if not all(check.passed for check in self._checks):
            return
        if self._files.size_bytes is not None:
            self._checks.append(gates.size_ratio(self._files.size_bytes, baseline.result.size_bytes))
        self._step("opens", "opening", lambda: self._open(baseline), limit="a runtime")

    def measure(self) -> Rates | None:
        """Open it for a few seconds to see how fast it is; None where that fails, or takes much memory."""
        if not all(check.passed for check in self._checks):
            return None
        self._watch.doing(self.name, "short measurement")
        try:
            self._choose()
            if not measure.fits_together([self.launch]):
                return None
            with ExitStack() as stack:
                worker = stack.enter_context(Worker(self.launch))
                rates = pilot(worker, self._plan)
                if not self.server:
                    return rates
                self._waiting = worker  # a server is not started twice
                self._resources.push(stack.pop_all())
                return replace(rates, waits=True)
        except Failure:  # it will fail again, as a check with a name
            return None

    def _choose(self) -> tuple[str, ...]:
        """Choose the runtime, and return the others that could open it too."""
        plan, subject = self._plan, self._subject
        if self.launch.runtime:
            return self._others
        options = dict(subject.options) | ({"server": subject.server} if subject.server else {})
        settings = RuntimeSettings(plan.context, plan.threads, options)
        format_name = self._files.manifest.format if self._files.manifest else None
        choose = choose_server if subject.server else choose_runtime
        runtime, self._others = choose(subject.path, format_name, subject.server or subject.runtime)
        path = subject.path if isinstance(subject.path, str) else subject.path.absolute()
        if self._files.manifest and isinstance(path, Path):
            path = self._resources.enter_context(files.named_only(path, self._files.manifest))
        self.launch = Launch(runtime, path, settings, plan.limits, subject.secret_names)
        return self._others

    def _open(self, baseline: Baseline) -> None:
        others = self._choose()
        self._found["other_runtimes"] = others
        with self._waiting or Worker(self.launch) as worker:
            self._question_open(worker, baseline, others)

    def _question_open(self, worker: Worker, baseline: Baseline, others: tuple[str, ...]) -> None:
        self._found["opened"] = Opened.of(worker)
        also = f", and so could {' or '.join(others)}" if others else ""
        why = f"{worker.info.runtime} opens it{also}"
        self._checks.append(Check("opens", worker.info.runtime, "a runtime", passed=True, why=why))
        can = self._can = worker.info.can
        if "tokenize" in can:
            self._step("parity", "tokens and template", lambda: self._compare_tokens(worker, baseline))
        elif "count" in can:
            self._step("parity", "token counts and ends", lambda: self._compare_counts(worker, baseline))
        reference = baseline.reference
        if reference and {"logits", "top_logprobs"} & {*can} and worker.fault is None:
            self._step("quality", "logits", lambda: self._compare_logits(worker, reference))
        if worker.fault is None:
            self._step("answers", "", lambda: self._have_dialogues(worker, baseline))
        if self._plan.tasks and baseline.tasks and worker.fault is None:
            self._step("tasks", "tasks", lambda: self._ask_tasks(worker, baseline))
        self.is_alive = worker.fault is None

    def _step(self, name: str, what: str, step: Callable[[], None], limit: str | None = None) -> None:
        """Take a step; if it fails, that is a failed check of its name."""
        if what:
            self._watch.doing(self.name, what)
        try:
            step()
        except ChildFailure as failure:
            self._checks.append(gates.failed(name, failure.fault))
        except Failure as failure:
            self._checks.append(Check(name, None, limit, passed=False, why=failure.message))
        self._watch.found(self.result())

    def _compare_tokens(self, worker: Worker, baseline: Baseline) -> None:
        found = read_profile(worker, tuple(baseline.profile.markup), tuple(baseline.profile.ends))
        self._checks += compare(found, baseline.profile)

    def _compare_counts(self, worker: Worker, baseline: Baseline) -> None:
        self._checks += compare_counts(worker, baseline.profile)

    def _compare_logits(self, worker: Worker, reference: Reference) -> None:
        self._odds = self._kept.compare(worker, reference), worker.info
        self.sum_up_odds(reference.windows)
        self._watch.done(self.name, "odds")

    def compare_more(self, opened: Opener, reference: Reference) -> None:
        """Compare more windows, and keep only figures of them."""

        def compare() -> None:
            with opened(self.name, self.launch) as worker:
                if self._odds:
                    self._odds = self._odds[0].then(compare_logits(worker, reference)), self._odds[1]

        if self._odds and self.is_alive:
            self._step("quality", "more logits", compare)
            self.is_alive = all(check.passed for check in self._checks if check.name == "quality")

    def sum_up_odds(self, windows: Windows) -> None:
        """Compute the figures of all windows that were compared."""
        if self._odds and len(self._odds[0].divergence) == len(windows.ids):
            self._found["quality"] = quality_of(self._odds[0], windows, self._odds[1])

    def take_long(self, text: LongText) -> None:
        """Ask about a long text, in a context that holds it."""

        def read() -> None:
            with Worker(launch_for_long(self.launch, text.context)) as worker:
                self._found["long_context"] = ask_long(worker, text)

        if self.is_alive and {"logits", "top_logprobs"} & {*self._can}:
            self._step("long_context", "a long text", read)

    def _have_dialogues(self, worker: Worker, baseline: Baseline) -> None:
        answerer = WorkerAnswerer(worker, may_chat=baseline.profile.chats is not None)
        with self._kept.answering(answerer, worker) as asked:
            source = baseline.result.scenarios
            answers = converse(asked, baseline.plan, self._watch, self.name, source)
        if answers is None or source is None:
            return
        self._found["scenarios"] = answers
        require_alive(worker)
        self._smoke_drop = smoke_drop(source, answers)
        count = len(answers.transcripts)
        why = f"{count} dialogues without a crash"
        self._checks.append(Check("answers", count, count, passed=True, why=why))

    def _ask_tasks(self, worker: Worker, baseline: Baseline) -> None:
        if self._plan.tasks:
            self._found["tasks"] = against(self._plan.tasks.scores(worker), baseline.tasks)

    def take_load(self, baseline: Baseline) -> None:
        """Ask a server as many users do, if that is planned."""
        plan = self._plan.load
        if plan and self.is_alive and "load" in self._can:
            self._step("load", "load of many users", lambda: self._load(plan, baseline))

    def _load(self, plan: LoadPlan, baseline: Baseline) -> None:
        with Worker(launch_for(self.launch, plan)) as worker:
            is_chat = baseline.profile.chats is not None
            found = measure_load(worker, plan, self._plan.text, is_chat=is_chat)
            require_alive(worker)
        self._found["load"] = found
        self._checks.append(load_check(found))

    def take_speed(self, found: Measured | Fault) -> None:
        """Add the measurements that were taken in turns with the others."""
        if isinstance(found, Fault):
            self._checks.append(gates.failed("speed", found))
        else:
            self._found |= vars(found)
        self._watch.found(self.result())

    def result(self) -> ArtifactResult:
        """Return everything so far, with the gates that can be judged."""
        target = self._files.manifest.target if self._files.manifest else ""
        limits = gates.limits_for(self._subject.gates, target, self._scope.dialogues if self._scope else None)
        figures = self._figures()
        return ArtifactResult(
            name=self.name,
            manifest_sha256=self._files.manifest_sha256,
            size_bytes=self._files.size_bytes,
            checks=(*self._checks, *gates.judge(limits, figures)),
            limits_of=self._subject.limits_of,
            unmeasured=gates.unmeasured(limits, figures) if self.is_alive else (),
            output_errors=self._output_errors(),
            chosen_types=self._chosen_types(),
            **self._found,
        )

    def _output_errors(self) -> dict[str, float]:
        """Take what the manifest says its rounding lost of each tensor's output."""
        said = self._files.manifest.options.get("output_errors") if self._files.manifest else None
        found = said.items() if isinstance(said, dict) else ()
        return {name: float(error) for name, error in found if isinstance(error, int | float)}

    def _chosen_types(self) -> dict[str, str]:
        """Take the types of tensors from the manifest, where a budget chose them."""
        manifest = self._files.manifest
        return dict(manifest.tensors) if manifest and "budget" in manifest.options else {}

    def _figures(self) -> dict[str, float | None]:
        """Return the measurements by the gates' names."""
        parts = (self._found.get(part) for part in ("quality", "speed", "memory"))
        drops = {"smoke_drop": self._smoke_drop, "task_drop": task_drop(self._found.get("tasks", ()))}
        return figures(self._files.size_bytes, drops, *parts)
