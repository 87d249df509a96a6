"""One artifact, open in an isolated process; whatever goes wrong there is a `Fault` here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from convert.child import Child, Limits
from verify.protocol import unpack
from verify.runtimes import Finished, Info, Outcome, Piece, Request, RuntimeSettings, Tick

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from convert.child.channel import Header


@dataclass(frozen=True)
class Launch:
    """What to open, in which runtime, and the most it may take."""

    runtime: str
    path: str | Path  # a folder, a file, or a server's address
    settings: RuntimeSettings = field(default_factory=RuntimeSettings)
    limits: Limits = field(default_factory=Limits)
    secret_names: tuple[str, ...] = ()  # environment variables that this runtime needs (a server's key)


# Opens a launch of this name, or hands out the worker that is open already.
Opener: TypeAlias = "Callable[[str, Launch], AbstractContextManager[Worker]]"


class Worker(Child):
    """A child with an artifact open in a runtime."""

    def __init__(self, launch: Launch) -> None:
        """Start the child and open the artifact."""
        self.launch = launch
        self._seated: set[int] = set()
        # A runtime may be a server's client.
        super().__init__(
            "verify.child:Server", launch.limits, secret_names=launch.secret_names, has_network=True
        )
        try:
            args = {"runtime": launch.runtime, "path": str(launch.path), "settings": asdict(launch.settings)}
            self.info, self.load_s, self.versions = self.call(
                "open", args, _opened, seconds=launch.limits.open_s
            )
        except BaseException:
            self.close()
            raise

    def tokenize(self, text: str, *, special: bool = False, add_bos: bool = False) -> list[int]:
        """Turn text into ids; `special` reads markup, `add_bos` begins as the model's own tokenizer does."""
        args = {"text": text, "special": special, "add_bos": add_bos}
        return self.call("tokenize", args, lambda done: [int(token) for token in done["ids"]])

    def detokenize(self, ids: Sequence[int]) -> str:
        """Turn ids into text, markup shown."""
        return self.call("detokenize", {"ids": list(ids)}, lambda done: str(done["text"]))

    def apply_template(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
    ) -> str:
        """Lay a chat out as text, by the artifact's own template."""
        args = {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
        return self.call("template", args, lambda done: str(done["text"]))

    def logits(self, ids: Sequence[int], first: int = 0) -> Generator[NDArray[np.float32], None, None]:
        """Return the logits after each id from `first` on, in blocks of rows (n, vocab) of up to 16 MiB."""
        return self.stream(
            "logits", {"ids": list(ids), "first": first}, lambda header, data: [unpack(header, data)]
        )

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        """Continue, token by token; closing the iterator cancels."""
        return self.stream(
            "generate", asdict(request), lambda part, _: [Piece(**one) for one in part["items"]]
        )

    def answer(self, request: Request) -> str:
        """Continue, and return the whole text."""
        return "".join(piece.text for piece in self.generate(request))

    def together(self, requests: Sequence[Request]) -> Generator[Tick, None, None]:
        """Continue several requests at once; report only when each token came."""
        args = {"requests": [asdict(one) for one in requests]}
        return self.stream("together", args, lambda part, _: [Tick(**one) for one in part["items"]])

    def seats(self) -> int:
        """Ask how many requests `advance` answers at once."""
        return self.call("seats", {}, lambda done: int(done["count"]))

    def advance(self, added: Sequence[tuple[int, Request]]) -> list[Finished]:
        """Add requests by seat, and wait until one of all that are under way is finished."""
        self._seated |= {seat for seat, _ in added}
        args = {"added": [[seat, asdict(request)] for seat, request in added]}
        # One after the other they would have so much time together.
        seconds = self._limits.request_s * max(1, len(self._seated))
        done = self.call(
            "advance", args, lambda done: [Finished(**one) for one in done["finished"]], seconds=seconds
        )
        self._seated -= {one.seat for one in done}
        return done

    def top_logprobs(self, ids: Sequence[int], first: int) -> Generator[NDArray[np.float32], None, None]:
        """Return the logprobs of the likeliest tokens from a position on; -inf where they are not known."""
        args = {"ids": list(ids), "first": first}
        return self.stream("top_logprobs", args, lambda header, data: [unpack(header, data)])

    def load(
        self, requests: Sequence[Request], users: int | None, due_s: Sequence[float] = ()
    ) -> Generator[Outcome, None, None]:
        """Ask a server many requests, of so many users or each when it is due; return them as they end."""
        args = {"requests": [asdict(one) for one in requests], "users": users, "due_s": list(due_s)}
        seconds = self._limits.request_s * max(1, len(requests))
        return self.stream(
            "load", args, lambda part, _: [Outcome(**one) for one in part["items"]], seconds=seconds
        )

    def count(self, request: Request) -> int | None:
        """Return how many tokens a server says a prompt has."""
        return self.call("count", asdict(request), lambda done: _number(done["tokens"]))

    def force(self, token: int) -> tuple[str, str]:
        """Continue with one token by a logit bias; return the text, and why it ended."""
        return self.call("force", {"token": token}, lambda done: (str(done["text"]), str(done["end"])))

    def cache_bytes(self) -> int:
        """Return the bytes that the last request has left in the KV cache."""
        return self.call("cache", {}, lambda done: int(done["bytes"]))


def _number(found: object) -> int | None:
    return int(found) if isinstance(found, int) else None


def _opened(done: Header) -> tuple[Info, float, dict[str, str]]:
    given = done["info"]
    info = Info(**{**given, "can": tuple(given["can"]), "eog_ids": tuple(given["eog_ids"])})
    versions = {str(name): str(version) for name, version in done["versions"].items()}
    return info, float(done["load_s"]), versions
