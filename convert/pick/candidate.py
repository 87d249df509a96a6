"""Candidates: a model in a format, from a recipe, an artifact, a report, or a model alone."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from convert.errors import Failure, UsageFailure
from convert.extras import MissingPackage, missing
from convert.formats import find_format, load_recipe, option_models
from convert.formats.base import Weight
from convert.model.decoder import Decoder
from convert.pick.data import read_json
from convert.pick.known import Known, find_model
from convert.pick.memory import Weighed, weigh
from convert.recipe import Recipe, TargetOptions, choose, cli_name, find, known_recipes
from convert.recipe.shorthand import read_targets, spell
from convert.source import Hub
from convert.store import MANIFEST_NAME
from verify.report import NAME as REPORT
from verify.report import ArtifactResult, Report, others
from verify.report import read as read_report

# A model below this size answers nothing of use; one is a candidate only where somebody names it.
LEAST_WEIGHTS = 50e6
# The usual layout, which commands need not name.
GENAI = "genai"
# Candidates that a recipe and a runtime's menu name are the same.
_WEIGHED: dict[tuple[Decoder, str, str, str], Weighed | None] = {}
NOT_WEIGHED: dict[str, MissingPackage] = {}  # by format: what is not installed


@dataclass(frozen=True)
class Found:
    """What a report says of an artifact, and where."""

    path: Path
    machine: str
    cores: int
    result: ArtifactResult


@dataclass(frozen=True)
class Shipped:
    """How one gets an artifact that was published, and what commands then call it."""

    get: str | None  # the command that downloads it; None where its files are at hand
    folder: str
    file: str  # with the weights, or the first of several
    name: str


@dataclass(frozen=True)
class Candidate:
    """One artifact that could be the answer, built or not."""

    model: Known
    label: str  # the recipe's name, or the model's
    target: str
    options: TargetOptions
    is_in_recipe: bool = True
    recipe: Recipe | None = None
    folder: Path | None = None  # where it is, or would be
    is_built: bool = False
    found: Found | None = None
    elsewhere: tuple[Found, ...] = ()  # on further classes of nodes
    is_alone: bool = False  # named by itself: no other format of its model is meant
    shipped: Shipped | None = None  # where it is published, for those who do not build

    @property
    def format_name(self) -> str:
        """Return what runtimes know it as: its format, or whose folders it is in."""
        return self.options.format_name if self.layout == GENAI else self.layout

    @property
    def layout(self) -> str:
        return getattr(self.options, "layout", GENAI)

    @property
    def key(self) -> str:
        """Name it as the rows of reports are named; what no recipe makes, by what sets it apart."""
        return f"{self.label}/{self.target if self.is_in_recipe else self.shown_target}"

    @property
    def state(self) -> str:
        """Say in a word or two how far it is trusted."""
        if found := self._failed or self.found:
            result = found.result
            if result.verdict == "passed":
                return "passed"
            if result.verdict == "inconclusive":
                return f"inconclusive: {', '.join(result.unmeasured[:2])} not measured"
            failed = ", ".join(check.name for check in result.failures[:2])
            return f"failed: {failed or 'nothing checked'}"
        return "built, not verified" if self.is_built else "not built"

    @property
    def reports(self) -> tuple[Found, ...]:
        """Return what the reports of all classes of nodes say of it."""
        return (*([self.found] if self.found else []), *self.elsewhere)

    @property
    def is_failed(self) -> bool:
        return self._failed is not None

    @property
    def _failed(self) -> Found | None:
        return next((each for each in self.reports if each.result.verdict == "failed"), None)

    @property
    def kl(self) -> float | None:
        """Return the measured divergence from the source."""
        quality = self.found.result.quality if self.found else None
        return quality.kl_mean if quality else None

    @cached_property
    def weighed(self) -> Weighed | None:
        """Weigh it; None where a format lacks a package, or expresses neither model nor budget."""
        key = (self.model.decoder, self.model.native, self.target, self.options.model_dump_json())
        if key not in _WEIGHED:
            try:
                _WEIGHED[key] = self._weigh()
            except UsageFailure:  # a budget that nothing fits into: `plan` says so
                _WEIGHED[key] = None
            except (MissingPackage, ModuleNotFoundError) as error:
                failure = error if isinstance(error, MissingPackage) else missing(error.name or "")
                if failure is None:
                    raise
                _WEIGHED[key] = None
                NOT_WEIGHED[self.format_name] = failure
        return _WEIGHED[key]

    def _weigh(self) -> Weighed | None:
        weights = self.weights()
        return None if weights is None else weigh(self.model.decoder, weights)

    def weights(self) -> Iterable[Weight] | None:
        """List what it holds; None where its format cannot tell or express the model."""
        format_ = find_format(self.options.format_name)
        decoder = self.model.decoder
        rendered = format_.renders(decoder, self.options)
        if rendered is None or decoder.features - rendered or format_.limits(decoder):
            return None
        return format_.weigh(decoder, self.options, self.target, self.model.native)

    @property
    def spelled(self) -> str:
        """Write its target in short, for a command."""
        text = spell(self.target, option_models())
        if self.layout != GENAI:
            return f"{text},{self.options.format_name}:{self.layout}"
        bits = getattr(self.options, "bits", 4)
        return f"{text}:{bits}" if bits != 4 else text

    @property
    def shown_target(self) -> str:
        """Name its target, with bits or a layout that are not the usual ones."""
        if self.layout != GENAI:
            return f"{self.target} ({self.layout})"
        bits = getattr(self.options, "bits", 4)
        return f"{self.target}-Int{bits}" if bits != 4 else self.target

    @property
    def quality_key(self) -> str:
        """Name what the table of expected losses knows it as; of a budget, the largest type within it."""
        if bits := self._budget_bits:
            types: dict[str, str] = read_json("quality.json")["budgets"][self.format_name]
            fitting = [name for least, name in types.items() if float(least) <= bits]
            return (fitting or [*types.values()])[-1 if fitting else 0]
        name = self.target.removesuffix("-cpu").removesuffix("-cuda")
        return f"{name}-{bits}" if (bits := getattr(self.options, "bits", 4)) != 4 else name

    @property
    def _budget_bits(self) -> float | None:
        """Return what a budget allows for each weight; None where none decides."""
        budgets = getattr(self.options, "budgets", {}).values()
        count = self.model.parameter_count
        return next(
            (8 * each.bytes_of(count) / count for each in budgets if each.target == self.target), None
        )


def gather(what: Sequence[str], out: Path, hub: Hub | None = None) -> tuple[Candidate, ...]:
    """List the candidates that a person names; all recipes by default."""
    if what:
        named = [each for word in what for each in _named(word, out, hub)]
        return tuple(named)
    found: list[Candidate] = []
    for path in known_recipes().values():
        try:
            recipe = load_recipe(path)
            found += of_recipe(recipe, out, hub, online=False)
        except Failure:
            continue  # `list` says what is wrong with a recipe
    return tuple(each for each in found if each.model.parameter_count >= LEAST_WEIGHTS)


def _named(word: str, out: Path, hub: Hub | None) -> Iterator[Candidate]:
    path = Path(word)
    if path.name == REPORT and path.is_file():
        yield from _of_report(path, out, hub)
    elif (path / MANIFEST_NAME).is_file():
        yield from _of_artifact(path, hub)
    elif word in known_recipes() or path.suffix in (".yaml", ".yml"):
        yield from of_recipe(load_recipe(find(word)), out, hub)
    elif "/" in word or path.is_dir():
        yield from offered(find_model(word, Path(), hub), ())
    else:
        load_recipe(word)  # which names the recipe that was probably meant


def of_recipe(recipe: Recipe, out: Path, hub: Hub | None, *, online: bool = True) -> list[Candidate]:
    """List a recipe's artifacts, with what its report says of them."""
    hub = hub or Hub.from_environment(is_offline=None if online else True)
    model = find_model(recipe.model, recipe.path.parent, hub)
    home = out / recipe.name
    made, further = _report(home / REPORT), others(home)
    found = []
    for target in choose(recipe):
        folder = home / target.name
        candidate = Candidate(
            model, recipe.name, target.name, target.options, recipe=recipe, folder=folder,
            is_built=(folder / MANIFEST_NAME).is_file(),
        )  # fmt: skip
        elsewhere = [_result(each, folder, target.name, path.parent) for path, each in further.items()]
        found.append(
            replace(
                candidate,
                found=_result(made, folder, target.name, home),
                elsewhere=tuple(filter(None, elsewhere)),
            )
        )
    return found or list(offered(model, ()))


def _report(path: Path) -> Report | None:
    return read_report(path) if path.is_file() else None


def _result(made: Report | None, folder: Path, name: str, where: Path) -> Found | None:
    """Take what a report says of exactly these bytes: it names the manifest's digest."""
    manifest = folder / MANIFEST_NAME
    if made is None or not manifest.is_file():
        return None
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    for result in made.artifacts:
        if result.name == name and result.manifest_sha256 == digest:
            return Found(where / REPORT, made.machine.cpu, made.machine.cores, result)
    return None


def _of_report(path: Path, out: Path, hub: Hub | None) -> Iterator[Candidate]:
    """List a report's artifacts; what they are made of is said by the recipe of that name, or the source."""
    made = read_report(path)
    recipe = load_recipe(made.recipe) if made.recipe and made.recipe in known_recipes() else None
    repo = recipe.model if recipe else made.source.repo
    if repo is None:
        raise UsageFailure(f"{path}: nobody says which model this is", "name the recipe")
    model = find_model(repo, recipe.path.parent if recipe else Path(), hub)
    own = {each.name: each for each in choose(recipe)} if recipe else {}
    for result in made.artifacts:
        options = own[result.name].options if result.name in own else _options(result.name)
        yield Candidate(
            model, made.recipe or model.name, result.name, options, recipe=recipe,
            folder=out / (made.recipe or model.name) / result.name, is_built=True,
            found=Found(path, made.machine.cpu, made.machine.cores, result), is_alone=True,
        )  # fmt: skip


def _of_artifact(folder: Path, hub: Hub | None) -> Iterator[Candidate]:
    from convert.store import read_manifest  # noqa: PLC0415

    manifest = read_manifest(folder)
    if manifest.source.repo is None:
        raise UsageFailure(f"{folder}: it was made from a local folder", "name its recipe")
    model = find_model(manifest.source.repo, Path(), hub)
    made = _report(folder.parent / REPORT)
    yield Candidate(
        model, folder.parent.name, manifest.target, _options(manifest.target), folder=folder, is_built=True,
        found=_result(made, folder, manifest.target, folder.parent), is_alone=True,
    )  # fmt: skip


def _options(target: str) -> TargetOptions:
    return parse(spell(target, option_models()))[1]


def parse(text: str) -> tuple[str, TargetOptions]:
    """Read one target in short, as its artifact's name and its options."""
    ((name, options),) = read_targets(text, option_models()).items()
    read = option_models()[name].model_validate_json(json.dumps(options))
    return next(iter(read.by_target())), read


def offered(model: Known, menu: Iterable[str], like: Candidate | None = None) -> Iterator[Candidate]:
    """List a model in formats that no recipe asks for."""
    for text in menu or ("gguf:Q4_K_M", "gguf:Q6_K", "gguf:Q8_0", "onnx:int4"):
        if text.partition(":")[0] not in option_models():
            continue
        target, options = parse(text)
        label = like.label if like else model.name.rpartition("/")[2].lower()
        folder = Path("artifacts", label, target)
        yield Candidate(
            model,
            label,
            target,
            options,
            is_in_recipe=False,
            recipe=like.recipe if like else None,
            folder=folder,
        )


def recipe_name(candidate: Candidate) -> str | None:
    """Return the argument by which commands find its recipe."""
    return cli_name(candidate.recipe.path) if candidate.recipe else None
