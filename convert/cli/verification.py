"""From a recipe, or from folders, to what verification takes: artifacts, their source, the questions."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from convert import pipeline
from convert.cli.live_table import watching
from convert.errors import Failure, UsageFailure
from convert.model.config import read_config
from convert.model.families import find_family
from convert.pipeline import stage
from convert.recipe import Gates, Verify, cli_name, expand_home
from convert.source import Hub, digest_of_all, fetch, list_source
from convert.store import MANIFEST_NAME, Manifest, MissingManifest, read_manifest
from convert.tokenizer import load as load_tokenizer
from verify import scenarios
from verify import stage as judging
from verify.baseline import Source
from verify.stage import Plan, Subject
from verify.text import join_packs, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convert.cli.output import Output
    from convert.progress import Progress
    from convert.recipe import Recipe
    from convert.source import Listing
    from verify.report import Report


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
    recipe: Recipe | None = None
    folder: Path | None = None  # where the report goes
    remarks: tuple[str, ...] = ()


def of_recipe(recipe: Recipe, *, out: Path, only: tuple[str, ...], offline: bool | None) -> Asked:
    """The artifacts of a recipe that stand, all of them unless `only` says which."""
    settings = pipeline.begin(recipe, out, only, offline=offline)
    found = stage.find(settings)
    wanted = stage.choose(settings, found)
    folders = {each.target: settings.store.folder(recipe.name, each.target) for each in wanted}
    missing = [name for name, folder in folders.items() if not os.path.lexists(folder / MANIFEST_NAME)]
    if missing:
        raise Failure(
            f"{', '.join(missing)}: not built yet",
            f"modelwright convert {cli_name(recipe.path)}, or leave out with --only",
        )
    stale = [each.target for each in wanted if not each.is_up_to_date]
    return Asked(
        subjects=tuple(Subject(name, folder, recipe.verify.gates) for name, folder in folders.items()),
        listing=found.listing,
        hub=settings.hub,
        verify=recipe.verify,
        beside=recipe.path.parent,
        recipe=recipe,
        folder=out / recipe.name,
        remarks=tuple(f"{name}: not as the recipe builds it now; `convert` does" for name in stale),
    )


def of_artifacts(
    places: Sequence[str], *, source: str | None, offline: bool | None, options: Sequence[str] = ()
) -> Asked:
    """Folders, files and servers, against the source that is named or that their manifests name."""
    manifests = {place: _manifest(place) for place in places}
    hub = Hub.from_environment(is_offline=offline)
    names, chosen = _names(places), dict(map(_option, options))
    subjects = tuple(
        Subject(
            name=names[place],
            path=place if _is_address(place) else Path(place),
            gates=_gates(manifests[place]),
            options=chosen,
            secret_names=tuple(str(chosen[name]) for name in ("api_key_env",) if name in chosen),
        )
        for place in places
    )
    return Asked(subjects, _listing(source, manifests, hub), hub, Verify(), Path())


def judge(
    asked: Asked,
    output: Output,
    *,
    threads: int | None = None,
    packs: Sequence[str] = (),
    text: Path | None = None,
) -> Report:
    """Open, question and measure what was asked, while a person watches."""
    with tempfile.TemporaryDirectory(prefix="modelwright-") as workspace:
        reference, plan = prepare(
            asked, Path(workspace), threads=threads, packs=packs, text=text, progress=output.progress()
        )
        names = [subject.name for subject in asked.subjects]
        with watching(names, is_shown=not output.is_json and not output.is_quiet) as watch:
            report = judging.verify(asked.subjects, reference, plan, recipe=asked.recipe, watch=watch)
    if packs or text:
        return report.model_copy(update={"recipe_sha256": None})  # not what the recipe asks
    return report


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
    file = text or (asked.beside / expand_home(wanted.text) if wanted.text else None)
    words = read_text(file, wanted.tokens) if file else join_packs(chosen)
    pinned = fetch(asked.listing, hub=asked.hub, progress=progress)
    source = Source(
        folder=pinned.folder,
        tokenizer=spell_tokenizer(pinned.folder, workspace / "tokenizer"),
        repo=pinned.repo,
        commit=pinned.commit,
        digest=digest_of_all({name: str(digest.sha256) for name, digest in pinned.files.items()}),
        size_bytes=sum(digest.size_bytes for digest in pinned.files.values()),
    )
    plan = Plan(
        packs=chosen,
        text=words,
        text_name=file.name if file else "the scenarios' own words",
        tokens=wanted.tokens,
        threads=threads or _threads(source.size_bytes),
        cache=asked.hub.notes / "odds",
    )
    return source, plan


def _threads(source_bytes: int) -> int | None:
    return 1 if source_bytes < SMALL_BYTES else None


def spell_tokenizer(model: Path, folder: Path) -> Path:
    """The source's tokenizer in the form that every library reads, and each token that ends an answer."""
    config = read_config(model)
    decoder = find_family(config).describe(config)
    tokenizer = load_tokenizer(model, config.text("model_type"), config.values, decoder.vocab_size)
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_bytes(tokenizer.json)
    _write(folder / "tokenizer_config.json", tokenizer.config)
    _write(folder / "generation_config.json", {"eos_token_id": list(tokenizer.eog_ids)})
    return folder


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
        folder = expand_home(source)
        if not folder.is_dir() and (folder.exists() or source.startswith((".", "/", "~"))):
            hint = "name the folder of the source model, or its Hub repo as owner/name"
            raise UsageFailure(f"--source {source}: is no folder", hint)
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


def _option(text: str) -> tuple[str, Any]:
    """NAME=VALUE; a number or an object is written as in JSON, anything else stands for itself."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageFailure(f"--option {text}: is not NAME=VALUE", "write e.g. --option api_key_env=MY_KEY")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _names(places: Sequence[str]) -> dict[str, str]:
    """Short names, told apart where two are called the same."""
    short = {place: place if _is_address(place) else Path(place).resolve().name for place in places}
    return {place: name if list(short.values()).count(name) == 1 else place for place, name in short.items()}


def _is_address(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
