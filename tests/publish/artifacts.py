"""Small artifacts with a manifest each, and a report as a verification would have made it, in no time."""

from __future__ import annotations

import functools
import hashlib
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from convert.formats import option_models
from convert.formats.gguf.format import GgufFormat
from convert.recipe import Recipe, choose, load
from convert.source import digest_of_all
from convert.store import MANIFEST_NAME, Manifest, SourceRecord, Store, artifact_key, read_manifest
from tests.verify import reports
from verify import scenarios
from verify.gates import Check, Value, judge, limits_for, size_ratio
from verify.quality import FIGURES
from verify.report import NAME, ArtifactResult, Report, Scenarios, write_json
from verify.revision import REVISION
from verify.scenarios.score import scores, smoke
from verify.scenarios.transcript import Exchange, Outcome, Transcript

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from convert.recipe import Target
    from verify.scenarios.pack import Dialogue, Pack

# What a good conversion measures.
GOOD = {"smoke_drop": 0.0, "ppl_ratio": 1.001, "kl_mean": 0.001, "top1": 0.99}
TARGETS = ("gguf-Q6_K", "gguf-Q8_0")
LICENCE = b"Do as you like.\n"


def noise(size_bytes: int, seed: int) -> bytes:
    """Bytes of no meaning, the same for the same seed."""
    return random.Random(seed).randbytes(size_bytes)


def write_recipe(folder: Path, publish: str = "{}", more: str = "") -> Recipe:
    """A recipe of two quants of a model on the Hub."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "small.yaml"
    targets = "targets: {gguf: {quants: [Q6_K, Q8_0]}}"
    file.write_text(f"model: acme/tiny\n{targets}\n{more}\npublish: {publish}\n", encoding="utf-8")
    return load(file, option_models())


def asked(recipe: Recipe, targets: tuple[str, ...] = TARGETS) -> tuple[Target, ...]:
    """What a recipe wants published."""
    return choose(recipe, targets)


def build(
    recipe: Recipe,
    root: Path,
    target: str,
    size_bytes: int = 40_000,
    revision: int | None = GgufFormat.REVISION,
) -> Path:
    """An artifact that stands: a model file of noise, and a licence."""
    (wanted,) = asked(recipe, (target,))
    tools = {"modelwright": "0.1.0", "gguf": "0"}
    key = artifact_key(
        source_digests={"w": "0"}, target=target, options=wanted.own_options, format_revision=1, tools=tools
    )
    with Store(root).stage(recipe.name, target, key) as staging:
        name = f"tiny-{target.removeprefix('gguf-')}.gguf"
        seed = int.from_bytes(hashlib.sha256(target.encode()).digest()[:4])
        staging.allocate(name, 0).write_bytes(noise(size_bytes, seed))
        staging.allocate("LICENSE", 0).write_bytes(LICENCE)
        staging.commit(
            Manifest(
                key=key,
                recipe=recipe.text,
                source=SourceRecord(repo="acme/tiny", commit="0" * 40, files=()),
                target=target,
                format="gguf",
                format_revision=revision,
                options=dict(wanted.own_options),
                tools=tools,
                tensors={"token_embd.weight": target.removeprefix("gguf-")},
                license="mit",
                chat_template_sha256=None,
            )
        )
    return root / recipe.name / target


def result(recipe: Recipe, folder: Path, measured: Mapping[str, float | None] = GOOD) -> ArtifactResult:
    """What a verification would have found of the artifact in a folder, all of it consistent."""
    target = folder.name
    made = reports.artifact(target)
    size = sum(path.stat().st_size for path in folder.iterdir() if path.name != MANIFEST_NAME)
    figures = {name: value for name, value in measured.items() if name in FIGURES}
    has_quality = {"ppl_ratio", "kl_mean", "top1"} <= {
        name for name, value in figures.items() if value is not None and math.isfinite(value)
    }
    assert made.quality is not None
    quality = replace(made.quality, intervals={}, **cast("dict[str, Any]", figures))
    found = discussed(recipe, lost=measured.get("smoke_drop") or 0.0)
    checks = (
        *parity(len(found.transcripts), size),
        *judge(limits_for(recipe.verify.gates, target), measured),
    )
    digest = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    return made.model_copy(
        update={
            "manifest_sha256": digest,
            "checks": checks,
            "unmeasured": (),
            "size_bytes": size,
            "quality": quality if has_quality else None,
            "scenarios": found,
        }
    )


def parity(dialogues: int, size_bytes: int) -> tuple[Check, ...]:
    """Every check that is no gate, passed."""

    def passed(name: str, measured: Value, limit: Value) -> Check:
        return Check(name, measured, limit, passed=True, why="as it should be")

    return (
        passed("digests", 0, 0),
        passed("header", 1, 1),
        size_ratio(size_bytes, size_bytes),
        passed("opens", "llama_cpp", "a runtime"),
        passed("vocabulary", 512, 512),
        passed("tokenizer", 0, 0),
        passed("markup", 0, 0),
        passed("chat_template", "equal", "as the source's"),
        passed("chat_tokens", "equal", "as the source's"),
        passed("end_of_turn", 0, 0),
        passed("context_length", 64, 64),
        passed("answers", dialogues, dialogues),
    )


@functools.cache
def _dialogues(wanted: tuple[str, ...], base: Path, lost: float) -> Scenarios:
    packs = scenarios.load(wanted, base)
    total = sum(len(pack.dialogues) for pack in packs)
    transcripts: list[Transcript] = []
    for pack in packs:
        for dialogue in pack.dialogues:
            fails = len(transcripts) < round(lost * total)
            transcripts.append(_transcript(pack, dialogue, fails=fails))
    found = tuple(transcripts)
    return Scenarios(smoke=smoke(found), scores=scores(found), transcripts=found)


def discussed(recipe: Recipe, lost: float = 0.0) -> Scenarios:
    """Every dialogue that a recipe asks for; the first of them failed, up to a share."""
    return _dialogues(recipe.verify.scenarios, recipe.path.parent, lost)


def _transcript(pack: Pack, dialogue: Dialogue, *, fails: bool) -> Transcript:
    exchanges = []
    for turn in dialogue.turns:
        names = list(pack.checks_of(turn))
        required = [name for name in names if name not in pack.advisory]
        outcomes = tuple(
            Outcome(name, not (fails and name == required[0]), "", name in required) for name in names
        )
        exchanges.append(Exchange("user", "sent", "raw", "answer", "end", 3, (), outcomes))
    return Transcript(pack.scenario, pack.language, dialogue.name, "chat", tuple(exchanges))


def write_report(
    recipe: Recipe, root: Path, *results: ArtifactResult, revision: int | None = REVISION
) -> Report:
    """The report beside the artifacts."""
    made = reports.report(*results, recipe=recipe.name)
    record = read_manifest(root / recipe.name / results[0].name).source
    digest = digest_of_all({entry.path: entry.sha256 for entry in record.files})
    source = made.source.model_copy(
        update={
            "repo": record.repo,
            "commit": record.commit,
            "digest": digest,
            "size_bytes": max(each.size_bytes or 0 for each in results),
            "scenarios": discussed(recipe),
        }
    )
    made = made.model_copy(
        update={
            "revision": revision,
            "recipe_sha256": recipe.asked_sha256,
            "source": source,
        }
    )
    write_json(root / recipe.name / NAME, made)
    return made


def stand(folder: Path, publish: str = "{}", more: str = "", size_bytes: int = 40_000) -> tuple[Recipe, Path]:
    """A recipe, its artifacts, and a report in which all of them passed."""
    recipe, root = write_recipe(folder, publish, more), folder / "artifacts"
    folders = [build(recipe, root, target, size_bytes) for target in TARGETS]
    write_report(recipe, root, *(result(recipe, each) for each in folders))
    return recipe, root
