"""The interface of runtimes, and their registry: a file's name in this folder is the runtime's name.

A runtime file has three functions, and imports its natives inside them: ``suits(folder)`` says, without
opening anything, whether it can open a folder that has no manifest; ``preload()`` imports the natives and
gives their versions; ``open_runtime(path, settings)`` opens an artifact. Only the child calls the last two.
``FORMATS`` names the manifests' formats that it opens. ``SCHEMES`` (of addresses that it opens) and
``PREFERENCE`` (a number, 0 where it is absent) are optional.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from convert.errors import Failure, UsageFailure

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class RuntimeSettings:
    """How to open an artifact; a runtime refuses `options` that it does not know."""

    context: int = 2048  # tokens; never more than the model was made for
    threads: int | None = None  # none: every core this process may use
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Info:
    """A runtime's description of the artifact it has opened."""

    runtime: str
    can: tuple[str, ...]  # the calls it answers: tokenize, template, logits, generate, cache, …
    context: int  # tokens, as opened
    context_length: int | None = None  # tokens, as the model was made
    vocab_size: int | None = None
    bos_id: int | None = None
    eos_id: int | None = None
    eog_ids: tuple[int, ...] = ()  # every token that ends an answer
    adds_bos: bool = False
    chat_template: str | None = None
    kv_bytes_per_token: int | None = None  # computed from the model's sizes
    takes_text: bool = False  # a server's own tokenizer and template are judged with it
    top_logprobs: int | None = None  # of so many likeliest tokens it gives logprobs, where not of all
    notes: Mapping[str, str] = field(default_factory=dict)  # for the record: dtype, offload, quantization


@dataclass(frozen=True)
class Request:
    """Something to continue, given once: as token ids, as text, or as a chat."""

    ids: tuple[int, ...] | None = None
    text: str | None = None
    messages: tuple[Mapping[str, str], ...] | None = None
    max_tokens: int = 256
    stop: tuple[str, ...] = ()  # the answer ends before any of these
    stop_ids: tuple[int, ...] = ()  # in addition to the vocabulary's own ends
    temperature: float = 0.0  # 0: the most likely token, always
    seed: int = 0
    likely: str = ""  # how it may go: where a runtime tries that first, the same answer comes sooner
    stops_loops: bool = False  # an answer that only repeats itself is ended, where a runtime can
    ignores_end: bool = False  # go on to max_tokens whatever comes, for measurements

    def __post_init__(self) -> None:
        """Refuse a request of two kinds, or of none."""
        if sum(given is not None for given in (self.ids, self.text, self.messages)) != 1:
            raise ValueError("a request is ids, text or messages: exactly one of them")


@dataclass(frozen=True)
class Piece:
    """One token as it comes, and the text that is certain with it; `t_s` counts from the request."""

    token: int | None  # a server sends text only
    text: str
    t_s: float
    # On the last piece: "end" (the model's own), "stop" (a stop string), "length", "loop".
    end: str | None = None
    tokens: int | None = None  # on a server's last piece: how many it says there were


@dataclass(frozen=True)
class Tick:
    """One token of one of several answers that are made together; a server may send more than one at once."""

    index: int
    t_s: float
    count: int = 1


@dataclass(frozen=True)
class Finished:
    """The whole answer that a seat has given; without an `end` the text says why there is none."""

    seat: int
    text: str
    end: str | None
    tokens: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of one request of many; times count from the first."""

    index: int
    due_s: float  # when it was to be asked
    first_s: float | None  # when its first word came
    end_s: float
    tokens: int
    text: str
    fault: str | None = None  # why there is no answer


class Runtime(Protocol):
    """An opened artifact; a runtime has the methods whose names its `info.can` holds."""

    info: Info

    def tokenize(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Turn text into ids: `special` reads markup such as <|im_end|>, `add_bos` adds the model's own."""

    def detokenize(self, ids: Sequence[int]) -> str:
        """Turn ids into text, markup shown."""

    def template(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        """Lay a chat out as text, by the artifact's own template."""

    def logits(self, ids: Sequence[int], first: int = 0) -> Generator[NDArray[np.float32], None, None]:
        """Yield the logits after each id from `first` on, in blocks of rows (n, vocab).

        Each block is valid until the next.
        """

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        """Continue, token by token; closing the iterator cancels."""

    def together(self, requests: Sequence[Request]) -> Generator[Tick, None, None]:
        """Continue several at once."""

    def seats(self) -> int:
        """Return how many answers `advance` makes at once."""

    def advance(self, added: Sequence[tuple[int, Request]]) -> list[Finished]:
        """Take requests by seat, and go on with all until one is finished; a seat reuses what it has read."""

    def cache_bytes(self) -> int:
        """Return the size of the KV cache after the last request."""

    def top_logprobs(self, ids: Sequence[int], first: int) -> Generator[NDArray[np.float32], None, None]:
        """Yield rows (n, vocab) for the positions from `first` to the last but one; -inf where unknown.

        Each has the likeliest tokens' logprobs, and that of the token that comes next.
        """

    def count(self, request: Request) -> int | None:
        """Return how many tokens a prompt has, as a server counts them; None where it does not say."""

    def load(
        self, requests: Sequence[Request], users: int | None, due_s: Sequence[float]
    ) -> Generator[Outcome, None, None]:
        """Answer many requests, of so many users or each when it is due; yield them as they end."""

    def force(self, token: int) -> tuple[str, str]:
        """Continue with this token by a logit bias, three times; return the text, and why it ended."""


def find_runtime(name: str) -> ModuleType:
    """Load the runtime of this name; a path that ends in .py is a runtime that a person brings."""
    check_runtime(name)
    return _load(Path(name)) if name.endswith(".py") else importlib.import_module(f"{__name__}.{name}")


def check_runtime(name: str) -> None:
    """Refuse a name or a path that is no runtime's, without loading anything."""
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UsageFailure(f"{name}: no such runtime file", "give a file of Python")
    elif name not in runtime_names():
        known = ", ".join(runtime_names())
        raise UsageFailure(
            f"there is no runtime called {name!r}", f"use one of: {known}; or a file of Python"
        )


def runtime_names() -> tuple[str, ...]:
    """List every runtime there is."""
    return tuple(sorted(each.name for each in pkgutil.iter_modules(__path__) if each.name[0] != "_"))


def runtimes_for(artifact: str | Path, format_name: str | None = None) -> tuple[str, ...]:
    """List the runtimes that open an artifact, the preferred one first.

    An artifact with a manifest goes by its format, which a runtime names in FORMATS; an address by its
    scheme, named in SCHEMES; anything else by `suits`. Among several, those with the higher PREFERENCE
    come first, and then the alphabet decides.
    """
    modules = {name: find_runtime(name) for name in runtime_names()}
    refusals: list[Failure] = []
    # One format may have folders of several kinds, each for some of its runtimes.
    is_parted = (
        Path(artifact).is_dir() and sum(format_name in module.FORMATS for module in modules.values()) > 1
    )

    def opens(module: ModuleType) -> bool:
        if is_address(artifact):
            return str(artifact).partition("://")[0] in getattr(module, "SCHEMES", ())
        if format_name is not None:
            return format_name in module.FORMATS and (not is_parted or module.suits(Path(artifact)))
        try:
            return bool(module.suits(Path(artifact)))
        except Failure as refusal:  # it knows the kind of folder, and cannot open this one
            refusals.append(refusal)
            return False

    found = [name for name, module in modules.items() if opens(module)]
    if not found and refusals:
        raise refusals[0]
    if not found:
        what = f"no runtime opens {format_name}" if format_name else "nothing here that any runtime opens"
        raise Failure(f"{artifact}: {what}", f"runtimes: {', '.join(modules)}; or name a file with --runtime")
    return tuple(sorted(found, key=lambda name: -getattr(modules[name], "PREFERENCE", 0)))


def choose_runtime(
    artifact: str | Path, format_name: str | None, named: str | None
) -> tuple[str, tuple[str, ...]]:
    """Return the runtime to use, the one that is named or the preferred, and the others that open it too."""
    if named is not None and named.endswith(".py"):
        named = str(Path(named).absolute())  # its process works in another folder
    elif named is not None and format_name is not None:
        formats = find_runtime(named).FORMATS
        if format_name not in formats:
            raise Failure(f"{named} opens {' and '.join(formats) or 'servers'}, and this is {format_name}")
    try:
        found = runtimes_for(artifact, format_name)
    except Failure:
        if named is None:
            raise
        found = ()
    chosen = found[0] if named is None else named
    return chosen, tuple(name for name in found if name != chosen)


def is_address(artifact: str | Path) -> bool:
    """Say whether an artifact is a server, named by its address."""
    return str(artifact).startswith(("http://", "https://"))


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageFailure(f"{path}: cannot be loaded", "give a file of Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
