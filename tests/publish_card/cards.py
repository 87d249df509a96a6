"""Bundles of real artifacts with made-up figures, and the card's parts as a reader sees them."""

from __future__ import annotations

import hashlib
import random
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt

from convert import convert_recipe
from convert.formats import option_models
from convert.model.card import front_matter
from convert.pick.known import find_model
from convert.publish import repo
from convert.publish.bundle import Bundle, Candidate
from convert.publish.card import render
from convert.publish.provenance.statement import attest
from convert.recipe import load
from convert.store import MANIFEST_NAME, SourceRecord, read_manifest
from tests.verify import reports
from verify.quality import Interval, Quality
from verify.report import NAME as REPORT_NAME
from verify.sample import Memory, Speed, Spread
from verify.scenarios.score import Score

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from convert.store import Manifest
    from verify.report import ArtifactResult

MODELS = Path(__file__).resolve().parents[2] / "recipes" / "models"
QUANTS = ("gguf-Q6_K", "gguf-Q8_0", "gguf-F16")
TARGETS = "{gguf: {quants: [Q6_K, Q8_0, F16]}, onnx: {precision: [int4, fp32]}, hf: {}}"
OPTIONS = option_models()
BASE, COMMIT = "Acme/Base-0.5B-Chat", "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Card:
    """A rendered card."""

    bundle: Bundle
    made: Mapping[str, bytes]

    @property
    def readme(self) -> str:
        return self.made["README.md"].decode()

    @property
    def body(self) -> str:
        """What stands below the front matter."""
        return self.readme.split("\n---\n", 1)[1]

    @property
    def html(self) -> str:
        """As a page shows it; the Hub lets HTML through, so this does too."""
        return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(self.body))

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of a language, as a reader copies them."""
        tokens = MarkdownIt("commonmark").enable("table").parse(self.body)
        return [token.content for token in tokens if token.type == "fence" and token.info == language]

    @property
    def commands(self) -> list[list[str]]:
        """Each command, as a shell takes it apart."""
        return [shlex.split(line) for block in self.blocks("sh") for line in block.splitlines()]

    @property
    def titles(self) -> list[str]:
        """The runtimes that it tells of."""
        return re.findall(r"^### (.*)$", self.body, re.MULTILINE)

    def section(self, title: str) -> str:
        """One of its sections, without the heading."""
        return self.body.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]

    def table(self, title: str) -> list[list[str]]:
        """The cells of a section's table, as text."""
        html = str(MarkdownIt("commonmark").enable("table").render(self.section(title)))
        rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
        return [
            [
                re.sub(r"<[^>]*>", "", cell)
                for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
            ]
            for row in rows
        ]


@dataclass(frozen=True)
class Artifacts:
    """The artifacts of both tiny models."""

    root: Path
    chance: random.Random = field(default_factory=lambda: random.Random(20_261_121))

    def candidate(
        self,
        built: str = "gguf-Q8_0",
        model: str = "qwen",
        *,
        target: str = "",
        manifest: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Candidate:
        """One of them, with figures that no other has."""
        folder, name = self.root / f"tiny-{model}" / built, target or built
        told = read_manifest(folder).model_copy(update=manifest)
        digest = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
        made = Candidate(name, folder, told, digest, self.result(name, told.size_bytes))
        return replace(made, **changes)

    def result(self, target: str, size_bytes: int) -> ArtifactResult:
        """What a verification could have found."""
        chance = self.chance
        kl = 10 ** chance.uniform(-4, -1)
        scores = (
            Score("searchqa", "zh", 16, 40, chance.random(), chance.random(), {"expects": 1.0}),
            Score("lessonpack", "en", 4, 9, chance.random(), chance.random(), {"expects": 1.0}),
        )
        made = reports.artifact(target)
        assert made.scenarios is not None
        return made.model_copy(
            update={
                "size_bytes": size_bytes,
                "unmeasured": (),
                "quality": Quality(
                    ppl=chance.uniform(5, 300),
                    ppl_source=8.0,
                    ppl_ratio=chance.uniform(0.98, 1.2),
                    kl_mean=kl,
                    kl_p99=4 * kl,
                    top1=chance.uniform(0.8, 1),
                    positions=2040,
                    window=512,
                    intervals={"kl_mean": Interval(kl / 2, kl * 2)},
                ),
                "speed": Speed(
                    load_s=_spread(chance.uniform(0, 9)),
                    ttft_s=_spread(chance.uniform(0, 2)),
                    prefill_tok_s=_spread(chance.uniform(9, 9e4)),
                    decode_tok_s=_spread(chance.uniform(1, 999)),
                    inter_token_p50_s=None,
                    inter_token_p95_s=None,
                    throughput_tok_s={},
                    prompt_tokens=256,
                    answer_tokens=64,
                ),
                "memory": Memory(chance.randrange(10**7, 10**11), 10**7, None, None),
                "scenarios": made.scenarios.model_copy(update={"smoke": chance.random(), "scores": scores}),
            }
        )

    def bundle(self, *candidates: Candidate, card: Mapping[str, Any] | None = None, **changes: Any) -> Bundle:
        """A repo of these, or of all quants."""
        members = repo.placed(candidates or [self.candidate(target) for target in QUANTS])
        manifest = members[0].manifest
        title = repo.title(manifest, "tiny")
        report = reports.report(*(each.result for each in members)).model_copy(
            update=changes.pop("report", {})
        )
        if card is None:
            card, _ = front_matter(MODELS / "tiny-qwen")
        suffix = repo.suffix(members[0])
        name = changes.pop("repo", f"someone/{title}-{suffix}")
        bundle = Bundle(name, title, suffix, members, report, card, repo.files(members))
        recipe = load(self.root.parent / f"{members[0].folder.parent.name}.yaml", OPTIONS)
        bundle = replace(bundle, model=find_model(recipe.model, Path()), options=recipe.targets)
        for each in members:
            own = {REPORT_NAME: b"{}", **attest(each, changes.get("signer"))}
            bundle = bundle.with_made({f"{each.documents}{path}": data for path, data in own.items()})
        changes.pop("signer", None)
        return replace(bundle, **changes)

    def card(self, *candidates: Candidate, **changes: Any) -> Card:
        """The bundle's card."""
        bundle = self.bundle(*candidates, **changes)
        return Card(bundle, render(bundle))


def of_hub(manifest: Manifest, *more: str) -> dict[str, Any]:
    """The same artifact, had its source come from the Hub, with these files beside."""
    entries = {entry.path: entry for entry in manifest.files} | {
        entry.path: entry for entry in manifest.source.files
    }
    files = list(manifest.source.files)
    for name in more:
        like = next(iter(entries.values()))
        files.append(like.model_copy(update={"path": name}))
    return {"source": SourceRecord(repo=BASE, commit=COMMIT, files=tuple(files))}


def build(root: Path, *models: str) -> Artifacts:
    """Convert the tiny models to every format there is."""
    for model in models:
        recipe = root / f"tiny-{model}.yaml"
        recipe.write_text(f"model: {MODELS / f'tiny-{model}'}\ntargets: {TARGETS}\n", encoding="utf-8")
        convert_recipe(load(recipe, option_models()), out=root / "artifacts", threads=1)
    return Artifacts(root / "artifacts")


def words(shown: Iterable[Sequence[str]]) -> str:
    """All cells in one line, to look for something."""
    return " ".join(cell for row in shown for cell in row)


def _spread(value: float) -> Spread:
    return Spread(value, value * 0.75, value * 1.5, 5)
