"""report.md: the verdicts and figures without transcripts, for a terminal, a diff or a model card."""

from collections.abc import Iterator, Sequence

from verify.gates import Check
from verify.harness import TaskScore
from verify.load import LoadResult
from verify.long_context import LongContext
from verify.quality import Quality
from verify.report import ArtifactResult, Report, Scenarios, SourceResult, words
from verify.sample import Speed
from verify.scenarios.score import flips

# Characters in a cell.
LONGEST_CELL = 300
ODDS = {
    "kl_median": "KL divergence, median",
    "kl_p90": "KL divergence, 90th percentile",
    "kl_p95": "KL divergence, 95th percentile",
    "kl_p999": "KL divergence, 99.9th percentile",
    "kl_max": "KL divergence, largest",
    "dp_mean": "Δp of the right token, mean",
    "dp_rms": "Δp of the right token, RMS",
}
LIMITS = {"recipe": "the recipe", "default": "modelwright itself, for it is not of a given recipe"}


def render(report: Report) -> str:
    """Return the whole file."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    source, machine = report.source, report.machine
    yield f"# {_plain(report.recipe or 'Verification')}: {words.verdict(report.verdict)}"
    yield ""
    commit = f" at `{_plain(source.commit)}`" if source.commit else ""
    adapter = f", with the adapter {_plain(source.adapter)}" if source.adapter else ""
    yield f"- source: {_plain(source.repo or 'a local folder')}{commit}{adapter}"
    if source.answered_by:
        yield f"- the source's answers: {_plain(words.answered_by(source.answered_by))}"
    memory = words.size(machine.memory_bytes)
    parts = [machine.cpu, f"{machine.cores} cores", memory, *(each.name for each in machine.accelerators)]
    yield f"- machine: {_plain(', '.join(parts))}"
    yield f"- quality measured on: {_plain(report.text)}"
    if report.scope:
        yield f"- asked: {words.scope(report.scope)}"
    yield f"- modelwright: {_plain(report.tool)}"
    yield ""
    quantized = (words.quantized_row(each, source) for each in report.baselines)
    yield from _table(words.HEAD, [words.source_row(source), *quantized, *map(words.row, report.artifacts)])
    yield ""
    yield words.LEGEND
    for each in report.baselines:
        if each.why:
            yield ""
            yield f"({_plain(each.name)}): {_plain(each.why)}"
    for artifact in report.artifacts:
        yield from _section(artifact, report.source)


def _section(artifact: ArtifactResult, source: SourceResult) -> Iterator[str]:
    yield ""
    yield f"## {_plain(artifact.name)}: {words.verdict(artifact.verdict)}"
    yield ""
    rows = [
        (check.name, words.value(check.measured), words.value(check.limit), _verdict(check), check.why)
        for check in sorted(artifact.checks, key=lambda check: check.passed)
    ]
    yield from _table(("check", "measured", "limit", "verdict", "details"), rows)
    if artifact.unmeasured:
        yield ""
        yield f"Inconclusive, for want of a measurement: {_plain(words.unmeasured(artifact))}."
    if artifact.limits_of:
        yield ""
        yield f"Judged by the limits of {LIMITS[artifact.limits_of]}."
    facts = [
        *figures(artifact),
        *_flips(source.scenarios, artifact.scenarios),
        *(_circumstances(artifact.speed) if artifact.speed else ()),
    ]
    if facts:
        yield ""
        yield from _table(("figure", "value"), facts)
    if artifact.scenarios:
        yield ""
        yield from _table(("scenario", "language", "dialogues", "passed", "checks passed"), scores(artifact))


def figures(artifact: ArtifactResult) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each measurement, with its spread or interval."""
    if quality := artifact.quality:
        within = quality.intervals.get
        least = f" or more: over the {quality.kl_tokens} likeliest tokens" if quality.kl_tokens else ""
        yield "KL divergence, mean", f"{words.within(quality.kl_mean, within('kl_mean'))} nats{least}"
        p99 = words.within(quality.kl_p99, within("kl_p99"))
        yield "KL divergence, 99th percentile", f"{p99} nats{least}"
        yield from _spread_of_odds(quality, least)
        yield "top-1 agreement", words.within(quality.top1, within("top1"), is_share=True)
        yield "perplexity ratio", words.within(quality.ppl_ratio, within("ppl_ratio"))
        yield "perplexity", words.within(quality.ppl, within("ppl"))
        yield "source's perplexity", words.number(quality.ppl_source)
        for kind, each in quality.kinds.items():
            kl = words.within(each.kl_mean, each.kl_interval)
            rest = f"top-1 {words.share(each.top1)}, perplexity {each.ppl_ratio:.4f} times the source's"
            yield f"KL divergence, {kind}", f"{kl} nats; {rest}"
    if artifact.long_context:
        yield from _long(artifact.long_context)
    yield from map(_task, artifact.tasks)
    if speed := artifact.speed:
        yield "load time", words.spread(speed.load_s, " s")
        yield "time to first token", words.spread(speed.ttft_s, " s")
        yield "prefill speed", words.spread(speed.prefill_tok_s, " tokens/s")
        yield "decode speed", words.spread(speed.decode_tok_s, " tokens/s")
        if speed.inter_token_p50_s is not None and speed.inter_token_p95_s is not None:
            pair = f"{1000 * speed.inter_token_p50_s:.1f} and {1000 * speed.inter_token_p95_s:.1f} ms"
            yield "time between tokens, p50 and p95", pair
        for count, rate in speed.throughput_tok_s.items():
            yield f"throughput, {count} at once", f"{words.number(rate)} tokens/s"
    yield from map(_load, artifact.load)
    if memory := artifact.memory:
        yield "peak memory", words.size(memory.peak_rss_bytes)
        yield "peak memory without mapped files", words.size(memory.peak_anon_bytes)
        per_token = memory.kv_bytes_per_token or memory.kv_bytes_per_token_computed
        if per_token:
            yield "KV cache per token", words.size(per_token)


def _spread_of_odds(quality: Quality, least: str) -> Iterator[tuple[str, str]]:
    """Yield what else llama-perplexity says of two models' odds; older reports have none of it."""
    for name, what in ODDS.items():
        value, interval = getattr(quality, name), quality.intervals.get(name)
        if value is None:
            continue
        is_change = name.startswith("dp_")
        text = words.within(value, interval, is_share=is_change)
        yield what, text if is_change else f"{text} nats{least}"


def _long(found: LongContext) -> Iterator[tuple[str, str]]:
    """Yield how the parts of a long text are foretold, and what was found again in it."""
    for part in found.parts:
        pair = f"{words.number(part.ppl)}; the source's {words.number(part.ppl_source)}"
        yield (
            f"perplexity of tokens {part.start + 1} to {part.stop} of {found.tokens}",
            f"{pair}; top-1 {words.share(part.top1)}",
        )
    for each in found.depths:
        own, source = ("found" if it else "not found" for it in (each.by_artifact, each.by_source))
        yield f"number hidden at {each.depth:.0%} of {found.tokens} tokens", f"{own}; by the source: {source}"


def _task(score: TaskScore) -> tuple[str, str]:
    """Sum up one figure of a task of lm-evaluation-harness."""
    pairs = ((score.value, score.stderr), (score.source, score.source_stderr))
    own, source = (
        words.number(value) + (f" ± {words.number(error)}" if error is not None else "")
        for value, error in pairs
    )
    asked = f"{score.questions} of {score.of} questions, {score.shots} examples each"
    return f"{score.task}, {score.metric}", f"{own}; the source's {source} ({asked})"


def _flips(source: Scenarios | None, found: Scenarios | None) -> Iterator[tuple[str, str]]:
    """Yield how many dialogues the artifact lost and won, for few of both may be luck."""
    if source and found:
        lost, won = flips(source.transcripts, found.transcripts)
        yield "dialogues that turned wrong, and right", f"{lost} and {won} of {len(found.transcripts)}"


def _circumstances(speed: Speed) -> Iterator[tuple[str, str]]:
    """Yield when speeds were measured, on how busy a machine, and what makes them doubtful."""
    if around := speed.circumstances:
        yield "measured on", around.date
        if around.others_cores is not None:
            yield "cores busy with other programs", f"{around.others_cores:.1f} of {around.cores}"
    for caution in speed.cautions:
        yield "caution", caution


def _load(level: LoadResult) -> tuple[str, str]:
    """Sum up how users of one number, or requests that came by themselves, were served."""
    who = (
        f"{level.users} at once" if level.users else f"{words.number(level.arrivals_per_s)} arriving a second"
    )
    first = map(words.number, (level.ttft_p50_s, level.ttft_p95_s, level.ttft_p99_s))
    parts = [
        f"{words.number(level.throughput_tok_s)} tokens/s in all",
        f"{words.number(level.user_tok_s)} each",
        f"first token {', '.join(first)} s (p50, p95, p99)",
        *([f"{level.errors} of {level.requests} without an answer"] if level.errors else []),
    ]
    return f"load, {level.profile}, {who}", "; ".join(parts)


def scores(artifact: ArtifactResult) -> list[tuple[str, ...]]:
    """Return a row for each scenario."""
    found = artifact.scenarios.scores if artifact.scenarios else ()
    return [
        (
            score.scenario,
            score.language,
            str(score.dialogues),
            words.share(score.smoke),
            words.share(score.check_share),
        )
        for score in found
    ]


def _verdict(check: Check) -> str:
    return "passed" if check.passed else "**FAILED**"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell if cell == '**FAILED**' else _plain(cell) for cell in row)} |"


def _plain(text: str) -> str:
    """Show a stranger's text on one line, with nothing that Markdown or HTML would take for markup."""
    line = " ".join(text.split())
    line = line if len(line) <= LONGEST_CELL else line[: LONGEST_CELL - 1] + "…"
    return "".join(
        f"\\{char}" if char in "\\`*_[]|<>#!~$" else char if char.isprintable() else "�" for char in line
    )
