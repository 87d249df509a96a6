"""What every runtime offers, and how one is found: the file's name in this folder is the runtime's name.

A runtime file has three functions, and imports its natives inside them: ``suits(folder)`` says, without
opening anything, whether it is the one to open such a folder; ``preload()`` imports the natives and gives
their versions; ``open_runtime(path, settings)`` opens an artifact. Only the child calls the last two.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from convert.errors import Failure, UsageFailure

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Settings:
    """How to open an artifact; what a runtime does not know among `options` it refuses."""

    context: int = 2048  # tokens; never more than the model was made for
    threads: int | None = None  # none: every core this process may use
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Info:
    """What a runtime says of the artifact it has opened."""

    runtime: str
    can: tuple[str, ...]  # the calls it answers: tokenize, template, logits, generate, together, cache
    context: int  # tokens, as opened
    context_length: int | None = None  # tokens, as the model was made
    vocab_size: int | None = None
    bos_id: int | None = None
    eos_id: int | None = None
    eog_ids: tuple[int, ...] = ()  # every token that ends an answer
    adds_bos: bool = False
    chat_template: str | None = None
    kv_bytes_per_token: int | None = None  # computed from the model's sizes
    notes: Mapping[str, str] = field(default_factory=dict)  # for the record: dtype, offload, quantisation


@dataclass(frozen=True)
class Request:
    """Something to continue, given once: as token ids, as text, or as a chat."""

    ids: tuple[int, ...] | None = None
    text: str | None = None
    messages: tuple[Mapping[str, str], ...] | None = None
    max_tokens: int = 256
    stop: tuple[str, ...] = ()  # the answer ends before any of these
    stop_ids: tuple[int, ...] = ()  # beside the vocabulary's own ends
    temperature: float = 0.0  # 0: the most likely token, always
    seed: int = 0
    ignores_end: bool = False  # go on to max_tokens whatever comes, for measurements

    def __post_init__(self) -> None:
        """A request of two kinds would be answered as one of them, unseen."""
        if sum(given is not None for given in (self.ids, self.text, self.messages)) != 1:
            raise ValueError("a request is ids, text or messages: exactly one of them")


@dataclass(frozen=True)
class Piece:
    """One token as it comes, and the text that is certain with it; `t_s` counts from the request."""

    token: int | None  # a server sends text only
    text: str
    t_s: float
    end: str | None = None  # on the last piece: "end" (the model's own), "stop" (a stop string), "length"
    tokens: int | None = None  # on a server's last piece: how many it says there were


@dataclass(frozen=True)
class Tick:
    """One token of one of several answers that are made together; a server may send more than one at once."""

    index: int
    t_s: float
    count: int = 1


class Runtime(Protocol):
    """An opened artifact; a runtime has the methods whose names its `info.can` holds."""

    info: Info

    def tokenize(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Text to ids: `special` reads markup such as <|im_end|>, `add_bos` wraps as the model's own does."""

    def detokenize(self, ids: Sequence[int]) -> str:
        """Ids to text, markup shown."""

    def template(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        """Lay a chat out as text, by the artifact's own template."""

    def logits(self, ids: Sequence[int]) -> Generator[NDArray[np.float32], None, None]:
        """The logits after each id, in order, in blocks of rows (n, vocab); each is good until the next."""

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        """Continue, token by token; closing the iterator cancels."""

    def together(self, requests: Sequence[Request]) -> Generator[Tick, None, None]:
        """Continue several at once."""

    def cache_bytes(self) -> int:
        """What the last request has left in the KV cache."""

    def close(self) -> None:
        """Give everything back."""


def find_runtime(name: str) -> ModuleType:
    """The runtime of this name; a path to a file of Python is one that a person brings."""
    if name.endswith(".py"):
        return _load(Path(name))
    if not name.isidentifier() or not (HERE / f"{name}.py").is_file():
        known = ", ".join(runtime_names())
        raise UsageFailure(f"there is no runtime called {name!r}", f"use one of: {known}")
    return importlib.import_module(f"{__name__}.{name}")


def runtime_names() -> tuple[str, ...]:
    """Every runtime there is."""
    return tuple(sorted(path.stem for path in HERE.glob("[a-z]*.py")))


def runtime_for(artifact: str | Path) -> str:
    """The runtime that suits a folder, a file or an address."""
    if str(artifact).startswith(("http://", "https://")):
        return "openai_http"
    path = Path(artifact)
    suitable: list[str] = []
    refusals: list[Failure] = []
    for name in runtime_names():
        try:
            suitable += [name] if find_runtime(name).suits(path) else []
        except Failure as refusal:  # it knows the kind of folder, and cannot open this one
            refusals.append(refusal)
    if refusals and not suitable:
        raise refusals[0]
    if len(suitable) == 1:
        return suitable[0]
    if suitable:
        raise Failure(f"{path}: {' and '.join(suitable)} could each open this", "keep one format to a folder")
    raise Failure(f"{path}: nothing here that any runtime opens", f"runtimes: {', '.join(runtime_names())}")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UsageFailure(f"{path}: no such runtime file", "give a file of Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
