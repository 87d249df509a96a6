"""The keys of a recipe as strict, frozen models, each field with its bounds and an example."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from convert.recipe.asked import asked_sha256
from convert.recipe.check import (
    Pack,
    check_file,
    check_model,
    check_repo_id,
    check_revision,
    check_runtimes,
    check_scenario,
    check_servers,
    check_task,
    check_template,
    local_folder,
    unique,
    wrong,
)
from convert.recipe.explain import brief, did_you_mean
from convert.recipe.gates import Gates
from convert.recipe.lookup import expand_home
from convert.recipe.span import AUTO, TimeSpan
from convert.recipe.strict import Strict, TargetOptions
from convert.recipe.transform import Transform

ExistingFile = Annotated[Path, AfterValidator(check_file)]
_EACH_ONCE: dict[str, JsonValue] = {"uniqueItems": True}
_Packs = Annotated[
    tuple[Pack, ...], Field(min_length=1, json_schema_extra=_EACH_ONCE), AfterValidator(unique)
]
_Runtimes = Annotated[str | dict[str, str] | None, AfterValidator(check_runtimes)]
_Users = Annotated[int, Field(ge=1, le=1000)]
_Servers = Annotated[str | dict[str, str] | None, AfterValidator(check_servers)]
_Scenario = Annotated[
    str,
    AfterValidator(check_scenario),
    Field(json_schema_extra={"anyOf": [{"enum": list(get_args(Pack))}, {"pattern": r"\.ya?ml$"}]}),
]
_Scenarios = Annotated[
    tuple[_Scenario, ...], Field(min_length=1, json_schema_extra=_EACH_ONCE), AfterValidator(unique)
]
_Tasks = Annotated[
    tuple[Annotated[str, AfterValidator(check_task)], ...],
    Field(json_schema_extra=_EACH_ONCE),
    AfterValidator(unique),
]


class Calibration(Strict):
    """The text that GPTQ, AWQ and importance matrices learn from."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [key]} for key in ("packs", "text", "dataset")]}
    )

    packs: _Packs | None = Field(
        default=None, description="Scenario packs to take texts from.", examples=[["searchqa"]]
    )
    text: ExistingFile | None = Field(
        default=None, description="A UTF-8 text file.", examples=["calibration.txt"]
    )
    dataset: Annotated[str, AfterValidator(check_repo_id)] | None = Field(
        default=None, description="A Hub dataset, owner/name.", examples=["Salesforce/wikitext"]
    )
    samples: int = Field(default=128, ge=1, le=100_000, description="Number of samples.")
    length: int = Field(default=2048, ge=16, le=131_072, description="Tokens in each sample.")
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="Chooses the samples; the same seed gives the same text."
    )
    device: Literal["cpu", "cuda"] = Field(
        default="cpu",
        description="Where modelwright's own passes learn from it, and round by what they learned.",
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        given = [key for key in ("packs", "text", "dataset") if getattr(self, key) is not None]
        if len(given) != 1:
            what = f"{' and '.join(given)} together" if given else "no text to learn from"
            raise wrong(what, "name one of packs, text and dataset, e.g. packs: [searchqa, lessonpack]")
        return self


class Load(Strict):
    """Many users at once, whose answers a server must keep apart."""

    profile: Literal["chat", "retrieval", "lesson"] = Field(
        default="chat", description="What they ask: how long prompts and answers are.", examples=["retrieval"]
    )
    concurrency: Annotated[tuple[_Users, ...], Field(min_length=1, json_schema_extra=_EACH_ONCE)] = Field(
        default=(1, 4, 20), description="How many ask at once, one level after the other."
    )
    rounds: int = Field(default=2, ge=1, le=1000, description="Requests of each user at each level.")


class Verify(Strict):
    """The questions that artifacts are asked, and the gates they must pass."""

    scenarios: _Scenarios = Field(
        default=("searchqa", "lessonpack"),
        description="Scenarios to run: searchqa, lessonpack, or the path of your own pack.",
        examples=[["searchqa"]],
    )
    tasks: _Tasks = Field(
        default=(),
        description="Tasks of lm-evaluation-harness (the extra `eval`) to ask: names, or its YAML files.",
        examples=[["arc_easy", "tasks/mine.yaml"]],
    )
    task_questions: int | None = Field(
        default=100, ge=2, description="Questions of each task, the first ones; null asks all."
    )
    text: ExistingFile | None = Field(
        default=None,
        description="A UTF-8 text file to compare logprobs on; the scenarios' texts by default.",
        examples=["heldout.txt"],
    )
    texts: Annotated[
        tuple[Literal["prose", "science", "code", "tools", "long", "chinese"], ...],
        Field(json_schema_extra=_EACH_ONCE),
        AfterValidator(unique),
    ] = Field(
        default=(),
        description="Kinds of text to compare logprobs on, with figures for each; modelwright has them.",
        examples=[["prose", "code", "chinese"]],
    )
    long_context: int | None = Field(
        default=None,
        ge=512,
        le=10_000_000,
        description="Tokens of a long text: perplexity by position, and numbers hidden at several depths.",
        examples=[32768],
    )
    tokens: int = Field(
        default=4096, ge=64, le=10_000_000, description="Number of tokens of the text that are read."
    )
    baselines: Annotated[
        tuple[Literal["bnb-nf4", "bnb-int8", "torchao-int8"], ...],
        Field(json_schema_extra=_EACH_ONCE),
        AfterValidator(unique),
    ] = Field(
        default=(),
        description="Ways to quantize the source when it is opened (the extra `baselines`), measured next to "
        "it; no gate judges them.",
        examples=[["bnb-nf4", "torchao-int8"]],
    )
    runtime: _Runtimes = Field(
        default=None,
        description="The runtime that opens artifacts, or one for each format: a name, or a Python file.",
        examples=["llama_cpp", {"gguf": "runtimes/mine.py"}],
    )
    serve: _Servers = Field(
        default=None,
        description="The server to start for artifacts in a runtime's place, or one for each format.",
        examples=["vllm", {"gguf": "llama-server"}],
    )
    budget: TimeSpan = Field(
        default=AUTO,
        description="The most time to take: what does not fit is left out, evenly, and the report says so; "
        "auto asks what fits 5 minutes, or a small sample in 15 at most; none asks everything.",
        examples=["2h", "none"],
    )
    load: Load | None = Field(
        default=None,
        description="Ask servers as many users do, in closed loops and as requests happen to come.",
        examples=[{"profile": "retrieval", "concurrency": [1, 4, 20]}],
    )
    on: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")], ...] = Field(
        default=(),
        description="Classes of nodes to verify on, one report each: resources of a fleet's nodes, as "
        "`ray start --resources` names them.",
        examples=[["cpu-avx512", "gpu-l4"]],
    )
    gates: Gates = Field(default=Gates(), description="Limits that decide whether an artifact passed.")
    gates_on: dict[str, Gates] = Field(
        default={},
        description="Limits of single classes of `on`; what one does not name is as in `gates`.",
        examples=[{"gpu-l4": {"decode_tok_s": 60}}],
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes of nodes, of which the first has the report of a single machine."""
        return self.on or ("",)

    def report_folder(self, folder: Path, kind: str) -> Path:
        """Return where the report of a class is: the first's is next to the artifacts."""
        return folder if kind == self.classes[0] else folder / "reports" / kind

    def on_class(self, kind: str) -> Self:
        """Return what holds on one class of nodes: its own limits in place of the general ones."""
        own = self.gates_on.get(kind)
        if own is None:
            return self
        limits = {name: getattr(own, name) for name in own.model_fields_set}
        return self.model_copy(update={"gates": self.gates.model_copy(update=limits)})

    @model_validator(mode="after")
    def _limits_of_classes_that_are_there(self) -> Self:
        for kind in self.gates_on:
            if kind not in self.on:
                listed = f"`on` has {', '.join(self.on)}" if self.on else "`on` has no classes"
                raise wrong(f"gates_on.{kind}: no such class of nodes", did_you_mean(kind, self.on, listed))
        return self


def _check_waivable(gate: str) -> str:
    if gate in Gates.model_fields:
        return gate
    listed = f"a gate is one of {', '.join(Gates.model_fields)}"
    what = f"{brief(gate)} is not a gate, and only gates can be waived"
    raise wrong(what, did_you_mean(gate, Gates.model_fields, listed))


def _check_reason(reason: str) -> str:
    if not reason.strip():
        raise wrong("no reason is given", "give the reason in a few words; they are printed on the card")
    if not reason.isprintable():
        raise wrong("must be one line of text", "remove line breaks and control characters")
    return reason.strip()


class Waiver(Strict):
    """A gate that may fail, and why; both are printed on the card."""

    gate: Annotated[
        str, AfterValidator(_check_waivable), Field(json_schema_extra={"enum": list(Gates.model_fields)})
    ] = Field(description="The gate.", examples=["top1"])
    reason: Annotated[str, AfterValidator(_check_reason)] = Field(
        max_length=500,
        description="Why it may fail.",
        examples=["for tests only"],
        json_schema_extra={"minLength": 1},  # for editors; _check_reason has the message for an empty one
    )
    target: str | None = Field(
        default=None,
        description="The artifact that may fail it; all artifacts by default.",
        examples=["gguf-Q2_K"],
    )


def _each_waived_once(waivers: tuple[Waiver, ...]) -> tuple[Waiver, ...]:
    unique(tuple(f"{each.gate} of {each.target}" if each.target else each.gate for each in waivers))
    return waivers


class Publish(Strict):
    """Where artifacts that passed are published."""

    repo: Annotated[str, AfterValidator(check_template)] = Field(
        default="{user}/{model}-{target}",
        description="The Hub repo; {user}, {model} and {target} are filled in.",
        examples=["{user}/{model}-{target}"],
    )
    private: bool = Field(default=True, description="Whether a new repo is private.")
    branch: Annotated[str, AfterValidator(check_revision)] = Field(
        default="main", description="The branch to write; created if missing."
    )
    tag: Annotated[str, AfterValidator(check_revision)] | None = Field(
        default=None, description="A tag for the published commit.", examples=["v1"]
    )
    pull_request: bool = Field(
        default=False, description="Whether to open a pull request instead of writing the branch."
    )
    collection: str | None = Field(
        default=None,
        min_length=1,
        max_length=59,
        description="The title of a collection to add the repos to; created if missing.",
        examples=["Chat models, quantized"],
    )
    to: str | None = Field(
        default=None,
        min_length=1,
        description="A destination other than the Hub: a folder, an fsspec URL, or an OCI registry.",
        examples=["oci://registry.example/models"],
    )
    signed: bool = Field(default=False, description="Whether to refuse to publish without a signature.")
    waive: Annotated[tuple[Waiver, ...], AfterValidator(_each_waived_once)] = Field(
        default=(),
        description="Gates that may fail.",
        examples=[[{"gate": "top1", "reason": "two bits lose that much"}]],
    )

    @model_validator(mode="after")
    def _fits_destination(self) -> Self:
        if self.pull_request and self.branch != "main":
            raise wrong("a pull request goes to main", "remove branch or pull_request")
        if self.pull_request and self.tag:
            raise wrong("a pull request cannot be tagged before it is merged", "remove tag")
        if self.to is not None:
            idle = [name for name in ("pull_request", "collection") if getattr(self, name)]
            if idle:
                raise wrong(f"only the Hub has a {idle[0].replace('_', ' ')}", f"remove {idle[0]} or to")
        return self


class AdapterRepo(Strict):
    """The Hub repo of a LoRA adapter, at a revision."""

    repo: Annotated[str, AfterValidator(check_repo_id)] = Field(
        description="The Hub repo, as owner/name.", examples=["Owner/My-LoRA"]
    )
    revision: Annotated[str, AfterValidator(check_revision)] = Field(
        default="main", description="A branch, tag or commit; resolved to a commit.", examples=["main"]
    )


def _check_adapter(given: str | AdapterRepo | None, info: ValidationInfo) -> str | AdapterRepo | None:
    return check_model(given, info) if isinstance(given, str) else given


class Contents(Strict):
    """A model and the formats to convert it to."""

    model: Annotated[str, AfterValidator(check_model)] = Field(
        description="A Hub repo as owner/name, or a folder relative to the recipe's.",
        examples=["Qwen/Qwen-7B-Chat"],
    )
    revision: Annotated[str, AfterValidator(check_revision)] = Field(
        default="main", description="A branch, tag or commit; resolved to a commit.", examples=["main"]
    )
    adapter: Annotated[str | AdapterRepo | None, AfterValidator(_check_adapter)] = Field(
        default=None,
        description="A LoRA adapter to merge: a Hub repo, or a folder relative to the recipe's.",
        examples=["Owner/My-LoRA", {"repo": "Owner/My-LoRA", "revision": "v1"}],
    )
    calibration: Calibration | None = Field(
        default=None, description="The text to calibrate with.", examples=[{"packs": ["searchqa"]}]
    )
    transform: Transform | None = Field(
        default=None,
        description="How weights are rewritten before any format rounds them; the model computes the same.",
        examples=[{"scales": "awq"}, {"rotation": "hadamard"}],
    )
    verify: Verify = Field(
        default=Verify(), description="How artifacts are verified.", examples=[{"scenarios": ["searchqa"]}]
    )
    publish: Publish | None = Field(
        default=None,
        description="Where artifacts that passed are published.",
        examples=[{"repo": "{user}/{model}-{target}"}],
    )


class Recipe(Contents):
    """A recipe that was read and validated."""

    name: str
    path: Path
    text: str
    targets: Mapping[str, TargetOptions]

    @property
    def learns_scales(self) -> bool:
        """Tell whether the calibration text decides what the weights become before any format sees them."""
        return self.transform is not None and self.transform.scales is not None

    @property
    def asked_sha256(self) -> str:
        """Digest what is built and how it is verified, the files that are named included."""
        return asked_sha256(self)

    @property
    def folder(self) -> Path | None:
        """Return the model's local folder; None for a Hub repo."""
        return local_folder(self.model, self.path.parent)

    @property
    def adapter_place(self) -> tuple[str, str] | None:
        """Return where the adapter is: a folder or a Hub repo, and its revision."""
        if self.adapter is None:
            return None
        if isinstance(self.adapter, AdapterRepo):
            return self.adapter.repo, self.adapter.revision
        return str(local_folder(self.adapter, self.path.parent) or self.adapter), "main"

    def locate(self, path: Path) -> Path:
        """Return the path of a file that the recipe names."""
        return self.path.parent / expand_home(path)
