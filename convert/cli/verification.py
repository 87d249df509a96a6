"""From a recipe, or from folders, to what verification takes: artifacts, their source, the questions."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from convert import pipeline
from convert.architectures import find_architecture
from convert.config import read_config
from convert.errors import Failure, UsageFailure
from convert.recipe import Gates, Verify
from convert.source import Hub, fetch, list_source
from convert.store import MANIFEST_NAME, Manifest, MissingManifest, read_manifest
from convert.tokenizer import load as load_tokenizer
from verify import scenarios
from verify.baseline import Source
from verify.report import NAME as REPORT_NAME
from verify.report import Report, markdown, page, read, write, write_json
from verify.stage import Plan, Subject
from verify.text import text_of_file, text_of_packs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convert.progress import Progress
    from convert.recipe import Recipe
    from convert.source import Listing


# With fewer, handing a token's work from core to core takes longer than doing it; on a busy machine, by far.
SMALL_BYTES = 64 << 20


@dataclass(frozen=True)
class Asked:
    """What a person wants verified, before the source is fetched."""

    subjects: tuple[Subject, ...]
    listing: Listing
    hub: Hub
    verify: Verify
    beside: Path  # that the recipe's paths are taken from
    recipe: str | None = None
    folder: Path | None = None  # where the report goes
    remarks: tuple[str, ...] = ()


def of_recipe(recipe: Recipe, *, out: Path, only: tuple[str, ...], offline: bool | None) -> Asked:
    """The artifacts of a recipe that stand, all of them unless `only` says which."""
    settings = pipeline.begin(recipe, out, only, offline=offline)
    found = pipeline.find(settings)
    wanted = pipeline.choose(settings, found)
    folders = {each.target: settings.store.folder(recipe.name, each.target) for each in wanted}
    missing = [name for name, folder in folders.items() if not os.path.lexists(folder / MANIFEST_NAME)]
    if missing:
        raise Failure(
            f"{', '.join(missing)}: not built yet",
            f"modelwright convert {recipe.name}, or leave out with --only",
        )
    stale = [each.target for each in wanted if not each.is_up_to_date]
    return Asked(
        subjects=tuple(Subject(name, folder, recipe.verify.gates) for name, folder in folders.items()),
        listing=found.listing,
        hub=settings.hub,
        verify=recipe.verify,
        beside=recipe.path.parent,
        recipe=recipe.name,
        folder=out / recipe.name,
        remarks=tuple(f"{name}: the recipe would build something else now; `convert` does" for name in stale),
    )


def of_artifacts(places: Sequence[str], *, source: str | None, offline: bool | None) -> Asked:
    """Folders, files and servers, against the source that is named or that their manifests name."""
    manifests = {place: _manifest(place) for place in places}
    hub = Hub.from_environment(is_offline=offline)
    names = _names(places)
    subjects = tuple(
        Subject(names[place], place if _is_address(place) else Path(place), _gates(manifests[place]))
        for place in places
    )
    return Asked(subjects, _listing(source, manifests, hub), hub, Verify(), Path())


def prepare(
    asked: Asked,
    workspace: Path,
    *,
    threads: int | None = None,
    packs: Sequence[str] = (),
    text: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Source, Plan]:
    """Fetch the source, spell its tokenizer out, and read what is to be asked."""
    wanted = asked.verify
    # Packs with a mistake are refused before gigabytes are fetched.
    chosen = scenarios.load(packs) if packs else scenarios.load(wanted.scenarios, asked.beside)
    file = text or (asked.beside / wanted.text.expanduser() if wanted.text else None)
    words = text_of_file(file, wanted.tokens) if file else text_of_packs(chosen)
    pinned = fetch(asked.listing, hub=asked.hub, progress=progress)
    digests = sorted((name, str(digest.blob)) for name, digest in pinned.files.items())
    source = Source(
        folder=pinned.folder,
        tokenizer=spell_tokenizer(pinned.folder, workspace / "tokenizer"),
        repo=pinned.repo,
        commit=pinned.commit,
        digest=hashlib.sha256(json.dumps(digests).encode()).hexdigest(),
    )
    plan = Plan(
        packs=chosen,
        text=words,
        text_name=file.name if file else "the scenarios' own words",
        tokens=wanted.tokens,
        threads=threads or _threads(sum(digest.size_bytes for digest in pinned.files.values())),
        cache=asked.hub.notes / "odds",
    )
    return source, plan


def _threads(source_bytes: int) -> int | None:
    return 1 if source_bytes < SMALL_BYTES else None


def spell_tokenizer(model: Path, folder: Path) -> Path:
    """The source's tokenizer in the form that every library reads, and each token that ends an answer."""
    config = read_config(model)
    decoder = find_architecture(config).describe(config)
    tokenizer = load_tokenizer(model, config.text("model_type"), config.values, decoder.vocab_size)
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_bytes(tokenizer.json)
    _write(folder / "tokenizer_config.json", tokenizer.config)
    _write(folder / "generation_config.json", {"eos_token_id": list(tokenizer.eog_ids)})
    return folder


def keep(report: Report, folder: Path) -> Report:
    """Write the report's three files; results of before stay where they speak of the same bytes."""
    path = folder / REPORT_NAME
    whole = replace_in(_earlier(path), report, folder)
    write_json(path, whole)
    render(whole, folder)
    return whole


def render(report: Report, folder: Path) -> None:
    """Write report.md and report.html."""
    write(folder / "report.md", markdown.render(report))
    write(folder / "report.html", page.render(report))


def replace_in(earlier: Report | None, report: Report, folder: Path) -> Report:
    """Add the earlier results of artifacts that were left out now, if they rest on the same grounds."""
    if earlier is None or _grounds(earlier) != _grounds(report):
        return report
    fresh = {artifact.name for artifact in report.artifacts}
    kept = [
        artifact
        for artifact in earlier.artifacts
        if artifact.name not in fresh
        and artifact.manifest_sha256 is not None
        and artifact.manifest_sha256 == _sha256(folder / artifact.name / MANIFEST_NAME)
    ]
    return report.model_copy(update={"artifacts": (*report.artifacts, *kept)})


def _grounds(report: Report) -> tuple[Any, ...]:
    return report.tool, report.text, report.source.digest, replace(report.machine, load_average=0.0)


def _earlier(path: Path) -> Report | None:
    try:
        return read(path)
    except Failure:  # absent or damaged: it is written anew
        return None


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _manifest(place: str) -> Manifest | None:
    if _is_address(place):
        return None
    path = Path(place)
    if not path.exists():
        raise UsageFailure(f"{place}: no such file or folder, and no recipe of that name")
    try:
        return read_manifest(path)
    except MissingManifest:
        return None
    except Failure:
        # The verification itself says what is wrong with it; here only the source's name would be of use.
        return None


def _gates(manifest: Manifest | None) -> Gates:
    """The limits of the recipe that an artifact was made by."""
    recipe = yaml.safe_load(manifest.recipe) if manifest else {}
    wanted = recipe.get("verify") if isinstance(recipe, dict) else None
    return Gates.model_validate(wanted.get("gates") or {}) if isinstance(wanted, dict) else Gates()


def _listing(source: str | None, manifests: dict[str, Manifest | None], hub: Hub) -> Listing:
    if source:
        return list_source(source, hub=hub)
    named = {
        (manifest.source.repo, manifest.source.commit) if manifest else (None, None)
        for manifest in manifests.values()
    }
    repo, commit = next(iter(named))
    if len(named) > 1 or repo is None or commit is None:
        why = "they come from several sources" if len(named) > 1 else "no manifest names the source's repo"
        raise UsageFailure(f"{why}, and artifacts are held against one", "name it with --source")
    return list_source(repo, commit, hub=hub)


def _names(places: Sequence[str]) -> dict[str, str]:
    """Short names, told apart where two are called the same."""
    short = {place: place if _is_address(place) else Path(place).resolve().name for place in places}
    return {place: name if list(short.values()).count(name) == 1 else place for place, name in short.items()}


def _is_address(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
