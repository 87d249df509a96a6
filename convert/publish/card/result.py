"""The measured figures, as the Hub's `model-index` holds them."""

import re
from collections.abc import Iterator
from typing import Any

from convert.publish.bundle import Bundle
from convert.publish.card.label import label
from convert.publish.card.markdown import one_line
from verify.report import ArtifactResult

REPO = re.compile(r"[\w.-]+/[\w.-]+")
TASK = {"type": "text-generation", "name": "Text generation"}


def model_index(name: str, bundle: Bundle) -> list[dict[str, Any]]:
    """Write one model, with a result per measured text and a metric per figure of each artifact."""
    quality: list[dict[str, Any]] = []
    dialogues: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for candidate in bundle.candidates:
        shown = label(candidate)
        quality += _quality(candidate.result, shown)
        scores = candidate.result.scenarios.scores if candidate.result.scenarios else ()
        for score in scores:
            metric = _metric("accuracy", f"Dialogues passed ({shown})", score.smoke)
            dialogues.setdefault((score.scenario, score.language), []).append(metric)
    results = []
    if quality:
        # No dataset of the Hub's: the type says so, and the name says what was read.
        text = {"type": "modelwright-text", "name": one_line(bundle.report.text)}
        results.append({"task": TASK, "dataset": text, "metrics": quality})
    for (task, data), metrics in _tasks(bundle).items():
        results.append({"task": TASK, "dataset": {"type": data, "name": task}, "metrics": metrics})
    for (scenario, language), metrics in dialogues.items():
        dataset = {
            "type": f"modelwright-{scenario}",
            "name": f"{scenario} dialogues ({language})",
            "config": str(language),
        }
        results.append({"task": TASK, "dataset": dataset, "metrics": metrics})
    return [{"name": name, "results": results}] if results else []


def _tasks(bundle: Bundle) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Group the figures of lm-evaluation-harness by task and the Hub's name of its data, where it has one."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for candidate in bundle.candidates:
        for score in candidate.result.tasks:
            dataset = score.dataset if REPO.fullmatch(score.dataset) else f"modelwright-{score.task}"
            error = f", standard error {score.stderr:.3g}" if score.stderr is not None else ""
            name = f"{score.metric}, {score.shots}-shot ({label(candidate)}{error})"
            key = one_line(score.task), one_line(dataset)
            found.setdefault(key, []).append(_metric(one_line(score.metric), one_line(name), score.value))
    return found


def _quality(result: ArtifactResult, shown: str) -> Iterator[dict[str, Any]]:
    quality = result.quality
    if quality is None:
        return
    yield _metric("perplexity", f"Perplexity ({shown})", quality.ppl)
    yield _metric("perplexity_ratio", f"Perplexity relative to the source ({shown})", quality.ppl_ratio)
    yield _metric("kl_divergence", f"Mean KL divergence from the source, nats ({shown})", quality.kl_mean)
    yield _metric("accuracy", f"Same most likely token as the source ({shown})", quality.top1)


def _metric(kind: str, name: str, value: float) -> dict[str, Any]:
    return {"type": kind, "value": float(f"{value:.6g}"), "name": name}
