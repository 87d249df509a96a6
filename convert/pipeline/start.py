"""How a run begins: with a recipe, or with artifacts that are named one by one, whoever made them."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypedDict

from convert.errors import Failure, UsageFailure
from convert.formats import load_recipe
from convert.pipeline.run import Run, Trial
from convert.progress import Progress
from convert.recipe import Recipe, expand_home, known_recipes
from convert.recipe.explain import did_you_mean
from convert.source import Hub, Listing, list_source
from convert.store import Manifest, Remote, Store, read_manifest
from verify.runtimes import check_runtime, is_address
from verify.servers import check_server
from verify.task import Subject, Watch


class Options(TypedDict, total=False):
    """What may be said of any run; a stage reads what concerns it."""

    out: Path  # the folder of all artifacts; artifacts/ by default
    store_url: str | None  # an object store that several machines share
    only: Sequence[str]  # targets or formats; all by default
    threads: int | None  # all cores by default
    offline: bool | None  # by default as HF_HUB_OFFLINE says
    progress: Progress  # hears of the work in bytes
    remark: Callable[[str], None]  # hears what a person should know
    watching: Callable[[Sequence[str]], AbstractContextManager[Watch]]  # shows a verification
    # In place of what the recipe has under `verify`:
    packs: Sequence[str]
    tasks: Sequence[str]
    texts: Sequence[str]
    text: Path | None
    budget: str | None  # the most time that verification takes: "2min", or "none"
    measures: Literal["all", "quality", "speed"]  # of a verification
    runtime: str | None  # a name, or the path of a Python file
    serve: str | None  # the server that is started for artifacts, and asked in a runtime's place
    load: str | None  # what the users of a server ask: the name of a profile
    concurrency: Sequence[int]  # how many of them there are, level by level
    attests: bool  # whether to write an attestation next to the report
    report_folder: Path  # artifacts/<recipe>/ by default
    on: str | None  # the class of nodes that this machine is of; the first of the recipe's by default


def start(recipe: Recipe, options: Options, **more: Any) -> Run:
    """Begin a run: nothing is read or written yet."""
    given: dict[str, Any] = {**options, **more}
    out = given.pop("out", Path("artifacts"))
    hub = Hub.from_environment(is_offline=given.pop("offline", None))
    address = given.pop("store_url", None)
    given = {"remote": Remote.at(address) if address else None, **given}
    wanted = recipe.verify
    kind = given.pop("on", None) or wanted.classes[0]
    if kind not in wanted.classes:
        listed = f"`verify: on` has {', '.join(wanted.on)}" if wanted.on else "`verify: on` names none"
        raise UsageFailure(
            f"{recipe.path}: {kind} is no class of nodes", did_you_mean(kind, wanted.on, listed)
        )
    given = {"verify": wanted.on_class(kind), "base": recipe.path.parent, **given}
    given = {"report_folder": wanted.report_folder(out / recipe.name, kind), **given}
    return Run(recipe=recipe, store=Store(out), hub=hub, **given)


def start_trial(
    places: Sequence[str], options: Options, source: str | None, runtime_options: Sequence[str]
) -> Trial:
    """Begin with folders, files and servers, and the source that is named or that their manifests name.

    They are judged by the default limits: whoever made one wrote the recipe in its manifest, too.
    """
    given: dict[str, Any] = {"report_folder": None, **options}
    hub = Hub.from_environment(is_offline=given.pop("offline", None))
    for name in ("out", "only", "store_url"):
        given.pop(name, None)
    places = [each for place in places for each in each_model(place)]
    manifests = {place: _manifest(place) for place in places}
    names, chosen = _names(places), dict(map(read_option, runtime_options))
    trial = Trial(hub=hub, base=Path(), **given)
    runtime, server = runtime_for(trial), server_for(trial)
    if server and any(map(is_address, places)):
        raise UsageFailure("--serve starts a server, and an address is one that runs already")
    subjects = tuple(
        Subject(
            name=names[place],
            path=place if is_address(place) else Path(place),
            runtime=runtime,
            server=server,
            options=chosen,
            secret_names=secret_names(chosen),
        )
        for place in places
    )
    listing = _listing(source, manifests, hub)
    adapter = None if source else _adapter_listing(manifests, hub)
    return replace(trial, subjects=subjects, listing=listing, adapter_listing=adapter)


def start_verification(
    what: Sequence[str], options: Options, *, source: str | None = None, runtime_options: Sequence[str] = ()
) -> Trial:
    """Begin with one recipe or with artifacts; a recipe's name goes before a folder of the same name."""
    recipes = [
        name
        for name in what
        if name in known_recipes() or (Path(name).suffix in (".yaml", ".yml") and not Path(name).is_dir())
    ]
    if recipes and len(what) > 1:
        raise UsageFailure(f"{recipes[0]} is a recipe, and one recipe is verified at a time")
    if recipes or not (is_address(what[0]) or Path(what[0]).exists() or source or runtime_options):
        if source or runtime_options:
            name = "--source" if source else "--option"
            raise UsageFailure(f"{name} is for artifacts; a recipe says itself what it is made of")
        return start(load_recipe(what[0]), options)
    for name in ("only", "on"):
        if options.get(name):
            raise UsageFailure(f"--{name} is for a recipe; name the artifacts that you mean")
    return start_trial(what, options, source, runtime_options)


def runtime_for(trial: Trial, format_name: str = "") -> str | None:
    """Return the runtime that a person or the recipe names; None where the best that suits is to be found."""
    name, base = trial.runtime, Path()
    if name is None:
        wanted = trial.verify.runtime
        name, base = wanted.get(format_name) if isinstance(wanted, dict) else wanted, trial.base
    if name is not None and name.endswith(".py"):
        name = str(base / expand_home(name))
    if name is not None:
        check_runtime(name)
    return name


def server_for(trial: Trial, format_name: str = "") -> str | None:
    """Return the server that a person or the recipe names; None where a runtime opens the artifact."""
    if trial.serve and trial.runtime:
        raise UsageFailure("--serve and --runtime each say what opens the artifacts", "give one of them")
    wanted = trial.serve
    if wanted is None and trial.runtime is None:
        named = trial.verify.serve
        wanted = named.get(format_name) if isinstance(named, dict) else named
    if wanted is not None:
        check_server(wanted)
    return wanted


def _manifest(place: str) -> Manifest | None:
    if is_address(place):
        return None
    path = Path(place)
    if not path.exists():
        raise UsageFailure(f"{place}: no such file or folder, and no recipe of that name")
    try:
        return read_manifest(path)
    except Failure:  # the verification itself says what is wrong; here only the source's name is of use
        return None


def _listing(source: str | None, manifests: dict[str, Manifest | None], hub: Hub) -> Listing:
    if source:
        folder = expand_home(source)
        if not folder.is_dir() and (folder.exists() or source.startswith((".", "/", "~"))):
            hint = "name the folder of the source model, or its Hub repo as owner/name"
            raise UsageFailure(f"--source {source}: is no folder", hint)
        return list_source(source, hub=hub)
    named = {
        (manifest.source.repo, manifest.source.commit, manifest.adapter) if manifest else (None, None, None)
        for manifest in manifests.values()
    }
    repo, commit, _ = next(iter(named))
    if len(named) > 1 or repo is None or commit is None:
        why = "they come from several sources" if len(named) > 1 else "no manifest names the source's repo"
        raise UsageFailure(f"{why}, and artifacts are compared with one", "name it with --source")
    return list_source(repo, commit, hub=hub)


def _adapter_listing(manifests: dict[str, Manifest | None], hub: Hub) -> Listing | None:
    """List the adapter that the artifacts' manifests name; all name the same."""
    manifest = next(iter(manifests.values()))
    if manifest is None or manifest.adapter is None:
        return None
    adapter = manifest.adapter
    if adapter.repo is None or adapter.commit is None:
        raise UsageFailure(
            "an adapter from a local folder was merged into the source",
            "verify by the recipe that names it, or name a merged model with --source",
        )
    return list_source(adapter.repo, adapter.commit, hub=hub)


def read_option(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE; a number or an object is written as in JSON, anything else is text."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageFailure(f"--option {text}: is not NAME=VALUE", "write e.g. --option api_key_env=MY_KEY")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def secret_names(options: Mapping[str, Any]) -> tuple[str, ...]:
    """List the environment variables that a runtime's options name, which its process gets."""
    return tuple(str(options[name]) for name in ("api_key_env",) if name in options)


def each_model(place: str) -> list[str]:
    """List a folder's GGUFs where somebody published several in it; anything else is one model."""
    folder = Path(place)
    if is_address(place) or not folder.is_dir() or _manifest(place) is not None:
        return [place]
    files = [each for each in sorted(folder.glob("*.gguf")) if not each.name.startswith("mmproj-")]
    is_split = any("-of-" in each.stem for each in files)
    return [str(each) for each in files] if len(files) > 1 and not is_split else [place]


def _names(places: Sequence[str]) -> dict[str, str]:
    """Shorten paths to names, where those differ."""
    short = {place: place if is_address(place) else Path(place).resolve().name for place in places}
    return {place: name if list(short.values()).count(name) == 1 else place for place, name in short.items()}
