"""Machines, runtimes and candidates as the page's script reads them."""

from dataclasses import asdict
from typing import Any

from convert.pick import commands
from convert.pick.candidate import Candidate
from convert.pick.fit import NONE, NOT_RUN, PARALLEL, Fit, divides
from convert.pick.machine import Machine
from convert.pick.memory import cache_of
from convert.pick.runtime import Holds, Runs, Runtime


def key(candidate: Candidate) -> str:
    """Name a candidate as the rows of reports are named."""
    return candidate.key


def data_of_machine(machine: Machine) -> dict[str, Any]:
    """Return a machine's figures, and what it is in words."""
    return {**asdict(machine), "text": str(machine)}


def data_of_runtime(runtime: Runtime) -> dict[str, Any]:
    """Return a runtime's figures, and its commands."""
    said = runtime.model_dump(
        include={"title", "kinds", "systems", "formats", "needs", "boost", "menu", "always", "smaller",
                 "verified_by",
                 "bits", "parallel", "run", "serve", "note"}
    )  # fmt: skip
    return {**said, "holds": _plain(runtime.holds), "runs": _plain(runtime.runs)}


def _plain(figures: Holds | Runs) -> dict[str, Any]:
    """Return numbers without where they come from."""
    said = figures.model_dump()
    return {name: each["value"] if isinstance(each, dict) else each for name, each in said.items()}


def data_of_model(candidate: Candidate) -> dict[str, Any]:
    """Return what memory, speed and faults depend on of a candidate's model."""
    model, decoder = candidate.model, candidate.model.decoder
    return {
        "vocab": decoder.vocab_size,
        "hidden": decoder.hidden_size,
        "context": decoder.context_length,
        "languages": model.languages,
        "is_chat": model.is_chat,
        "active": model.active_count,
        "kv_heads": max((each.kv_head_count for each in decoder.attentions), default=0),
        "shares": [number for number in PARALLEL if divides(candidate, number)],
        "cache": asdict(cache_of(decoder)),
    }


def data_of_candidate(candidate: Candidate, runtimes: dict[str, Runtime]) -> dict[str, Any]:
    """Return a candidate's weights, what was measured of it, and what commands call it."""
    result = candidate.found.result if candidate.found else None
    opens = [each for each in runtimes.items() if candidate.format_name in each[1].formats]
    by_bits = {}
    for name, runtime in opens:
        bits = "" if candidate.format_name != "hf" or runtime.bits is None else f"{runtime.bits:g}"
        place = Fit(candidate, name, runtime, NONE, NOT_RUN, 0.0)
        by_bits[bits] = {"loss": place.plain_loss, "kl": place.expected_kl}
    measured = None
    if result and result.memory and result.opened:
        measured = {
            "runtime": result.opened.runtime,
            "context": result.opened.context,
            "weights": float(result.size_bytes or 0),
            "rest": max(0.0, result.memory.peak_rss_bytes - float(result.size_bytes or 0)),
        }
    timed = None
    if candidate.found and result and result.speed and result.speed.decode_tok_s and result.opened:
        timed = {
            "machine": candidate.found.machine,
            "cores": candidate.found.cores,
            "runtime": result.opened.runtime,
            "decode": result.speed.decode_tok_s.median,
            "first": result.speed.ttft_s.median,
        }
    return {
        "key": key(candidate),
        "label": candidate.label,
        "target": candidate.target,
        "title": f"{candidate.label} {candidate.shown_target}",
        "format": candidate.format_name,
        "is_alone": candidate.is_alone,
        "state": candidate.state,
        "is_failed": candidate.is_failed,
        "kl": candidate.kl,
        "weighed": asdict(candidate.weighed) if candidate.weighed else None,
        "by_bits": by_bits,
        "measured": measured,
        "timed": timed,
        "build": commands.build(candidate),
        "names": commands.names(candidate),
    }
