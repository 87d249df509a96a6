"""Runtimes as data files describe them: what each opens and where, what it holds, and how it is started."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from pydantic import Field

from convert.pick import data
from convert.pick.data import Figure
from convert.recipe.strict import Strict


class Holds(Strict):
    """What a runtime holds of memory besides one copy of the weights."""

    base_mb: Figure = Field(description="Program and libraries, whatever the model.")
    vocabulary_bytes: float = Field(default=0.0, ge=0, description="Of each token's text, tables and all.")
    tables: Literal["held", "mapped"] = Field(
        default="held",
        description="Whether embeddings are held whole, or stay in the file but for some rows.",
    )
    weight_copies: float = Field(default=1.0, gt=0, description="How often weights of layers are held.")
    cache_value_bytes: float = Field(default=2.0, gt=0, description="Of a number in the cache.")
    cache_copies: float = Field(default=1.0, gt=0, description="How often the cache is held at its peak.")
    windows: Literal["kept", "ignored"] = Field(
        default="kept", description="Whether a layer that sees a window keeps no more than that."
    )
    latent: Literal["narrow", "wide"] = Field(
        default="narrow", description="What is kept of latent attention: the narrow row, or all heads."
    )
    batch_tokens: int = Field(default=512, ge=1, description="Tokens of a prompt that are read at once.")
    logits_tokens: int = Field(
        default=1, ge=0, description="Rows of logits that are held; 0: all that is read."
    )
    logits_bytes: float = Field(default=4.0, description="Of each logit.")
    hidden_rows: Figure = Field(
        description="Floats that are held for each token of a batch and each of its hidden values."
    )
    error: Figure = Field(description="How far such estimates have been off, as a share.")


class Runs(Strict):
    """How fast a runtime is, as shares of what the machine could do."""

    bandwidth_share: Figure
    flops_share: Figure
    step_ms: Figure = Field(description="Spent on each token besides.")
    error: Figure = Field(description="How far such estimates have been off, as a share.")


class Runtime(Strict):
    """A runtime."""

    title: str
    kinds: tuple[str, ...] = Field(description="Kinds of machines that it is for.")
    systems: tuple[str, ...] = Field(default=(), description="Systems that it runs on; all by default.")
    uses_gpu: bool = Field(default=False, description="Whether models go to a GPU's memory.")
    formats: tuple[str, ...] = Field(description="What it opens, the best first.")
    needs: Mapping[str, str] = Field(
        default={}, description="What a GPU must multiply for a target, by the target's beginning."
    )
    boost: Mapping[str, float] = Field(
        default={},
        description="How many times quicker than 16 bits a GPU multiplies a target, by its beginning.",
    )
    menu: tuple[str, ...] = Field(default=(), description="Targets to offer besides a recipe's.")
    always: bool = Field(default=False, description="Whether the menu is offered besides a recipe's targets.")
    smaller: tuple[str, ...] = Field(default=(), description="Targets to offer where nothing else fits.")
    verified_by: str = Field(default="", description="The runtime of `verify` whose figures hold for it.")
    bits: float | None = Field(
        default=None, description="What it makes of 16 bits when it converts a checkpoint by itself."
    )
    parallel: bool = Field(default=False, description="Whether it parts a model over several GPUs.")
    holds: Holds
    runs: Runs
    run: str = Field(description="The command for one person.")
    serve: str = Field(default="", description="The command for several.")
    note: str = ""


def find_runtime(name: str) -> Runtime:
    """Find a runtime by its name or a file's path; `like:` takes what is not said from another."""
    return data.load("runtimes", "runtime", Runtime, name)


@cache
def shipped_runtime(name: str) -> Runtime:
    """Read a shipped runtime, for what travels: a person's own of that name is no part of it."""
    return data.read(data.SHIPPED / "runtimes" / f"{name}.yaml", "runtime", Runtime)


def as_dict(runtime: Runtime) -> dict[str, Any]:
    """Return what is said of a runtime for a program."""
    return runtime.model_dump(mode="json")
