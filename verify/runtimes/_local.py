"""What every runtime in this process does alike: check a prompt, read it in parts, answer token by token."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from convert.child.sandbox import render
from convert.errors import Failure
from verify.decoding import AnswerStream, Sampler
from verify.runtimes import Finished, Info
from verify.runtimes._seats import MOST_SEATS, Seats, seat_count

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from verify.runtimes import Piece, Request, RuntimeSettings
    from verify.runtimes._seats import Entry

LONGEST_LINE = 200


class Vocabulary(Protocol):
    """A model's tokens: text to ids, and back."""

    bos_id: int | None
    eos_id: int | None
    ends: tuple[int, ...]  # every token that ends an answer
    adds_bos: bool
    chat_template: str | None
    markup: dict[str, str]  # what a chat template may ask for by name: bos_token and the like

    def encode(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Turn text into ids."""

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text, markup shown."""

    def stream(self) -> Callable[[int], bytes]:
        """Return a function that takes each id of an answer and gives the bytes that are complete with it."""


V = TypeVar("V", bound=Vocabulary)


class LocalRuntime(ABC, Generic[V]):
    """An opened model with its vocabulary; every request starts from an empty cache."""

    CALLS: ClassVar[tuple[str, ...]]
    BATCH: ClassVar[int]  # tokens that are read at once
    GUESSES = 0  # read on trial in a step of seats: no runtime must be able to forget them
    GUESSING_SEATS = MOST_SEATS  # so many at once
    LOGITS_BYTES: ClassVar[int] = 128 << 20  # the most of one part, which has fewer tokens where it must
    vocabulary: V
    vocab_size: int
    info: Info
    _seats: Seats | None = None

    def describe(
        self,
        name: str,
        settings: RuntimeSettings,
        *,
        trained: int,
        kv_bytes_per_token: int | None,
        notes: Mapping[str, str],
    ) -> Info:
        """Return what is known of the model; `trained` is the context that it was made for, 0 if unknown."""
        vocabulary = self.vocabulary
        return Info(
            runtime=name,
            can=(*self.CALLS, "template") if vocabulary.chat_template else self.CALLS,
            context=min(settings.context, trained or settings.context),
            context_length=trained or None,
            vocab_size=self.vocab_size,
            bos_id=vocabulary.bos_id,
            eos_id=vocabulary.eos_id,
            eog_ids=vocabulary.ends,
            adds_bos=vocabulary.adds_bos,
            chat_template=vocabulary.chat_template,
            kv_bytes_per_token=kv_bytes_per_token,
            notes=notes,
        )

    def tokenize(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Turn text into ids."""
        return self.vocabulary.encode(text, special=special, add_bos=add_bos)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Turn ids into text, markup shown."""
        return self.vocabulary.decode(ids)

    def template(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        """Lay a chat out by the model's template."""
        template, markup = self.vocabulary.chat_template or "", self.vocabulary.markup
        return render(template, messages, add_generation_prompt=add_generation_prompt, markup=markup)

    def logits(self, ids: Sequence[int], first: int = 0) -> Generator[NDArray[np.float32], None, None]:
        """Read the ids in parts, and yield the rows of each from `first` on."""
        self._admit(ids, len(ids))
        self._start(len(ids))
        size = self._prompt_part_size()
        for at in range(0, first, size):
            self._skip(ids[at : min(at + size, first)], at)
        left = len(ids) - first
        size = ceil(left / ceil(left / self._part_size()))  # about as many in each
        for at in range(first, len(ids), size):
            yield self._rows(ids[at : at + size], at)

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        """Read the prompt, then answer token by token, to the end of the context at most."""
        start = time.perf_counter()
        ids = request.ids or ()
        self._admit(ids, len(ids) + 1)
        request = replace(request, max_tokens=min(request.max_tokens, self.info.context - len(ids)))
        sampler, answer = Sampler(request), AnswerStream(request, self.info.eog_ids)
        bytes_of, position = self.vocabulary.stream(), len(ids)
        self._start(len(ids) + request.max_tokens)
        size = self._prompt_part_size()
        for at in range(0, len(ids), size):
            row = self._last_row(ids[at : at + size], at)
        while True:
            token = sampler.choose(row)
            piece = answer.add(token, bytes_of(token), time.perf_counter() - start)
            yield piece
            if piece.end:
                return
            row = self._last_row((token,), position)
            position += 1

    def seats(self) -> int:
        """Return how many answers are made at once."""
        return seat_count(self.info.context, self.info.kv_bytes_per_token)

    def advance(self, added: Sequence[tuple[int, Request]]) -> list[Finished]:
        """Go on with the answers on all seats until one is finished."""
        if self._seats is None:
            self._seats = Seats(self, self.vocabulary.stream)
        taken, refused = self._admit_all(added)
        return [*refused, *self._seats.advance(taken)]

    def read_seat(self, seat: int, ids: Sequence[int], at: int) -> NDArray[np.float32]:
        """Read tokens of one seat's text; only a runtime that can `advance` does."""
        raise NotImplementedError

    def step_seats(self, entries: Sequence[Entry]) -> Sequence[Sequence[NDArray[np.float32]]]:
        """Read as many tokens of each seat's text; only a runtime that can `advance` does."""
        raise NotImplementedError

    def copy_seat(self, seat: int, other: int) -> bool:
        """Replace what a seat has read by what another has, where a runtime can."""
        return False

    def keep_seat(self, seat: int, count: int) -> int:
        """Forget the rest of a seat's text; only a runtime that can `advance` does."""
        raise NotImplementedError

    def _admit_all(
        self, added: Sequence[tuple[int, Request]]
    ) -> tuple[list[tuple[int, Request]], list[Finished]]:
        """Return the requests that can be answered, none longer than the context, and those that cannot."""
        taken: list[tuple[int, Request]] = []
        refused: list[Finished] = []
        for seat, request in added:
            ids = request.ids or ()
            try:
                self._admit(ids, len(ids) + 1)
            except Failure as failure:
                refused.append(Finished(seat, failure.message, None))
            else:
                most = min(request.max_tokens, self.info.context - len(ids))
                taken.append((seat, replace(request, max_tokens=most)))
        return taken, refused

    def _admit(self, ids: Sequence[int], room: int) -> None:
        """Refuse a prompt that is empty, has a token that does not exist, or does not fit the context."""
        if not ids:
            raise Failure("an empty prompt: there is nothing to continue", "give at least one token")
        if room > self.info.context:
            what = f"{room} tokens do not fit the context of {self.info.context}"
            raise Failure(what, "open it with a longer one")
        check_ids(ids, self.vocab_size)

    def _part_size(self) -> int:
        """Return how many tokens are read at once while the logits of all of them are kept."""
        return max(1, min(self.BATCH, self.LOGITS_BYTES // (4 * self.vocab_size)))

    def _prompt_part_size(self) -> int:
        """Return how many tokens of a prompt are read at once."""
        return self.BATCH

    def _skip(self, part: Sequence[int], at: int) -> None:
        """Read the tokens that come at a position, whose logits nobody wants."""
        self._last_row(part, at)

    @abstractmethod
    def _start(self, room: int) -> None:
        """Empty the cache for a request of this many tokens, prompt and answer."""

    @abstractmethod
    def _rows(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        """Read the tokens that come at a position, and return the logits after each."""

    @abstractmethod
    def _last_row(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        """Read the tokens that come at a position, and return the logits after the last."""


def check_ids(ids: Sequence[int], size: int) -> None:
    """Refuse an id that no vocabulary of this size has; a native would crash, or read what is not there."""
    if outside := [token for token in ids if not 0 <= token < size]:
        raise Failure(f"token {outside[0]} is outside the vocabulary of {size}")


def one_line(text: str) -> str:
    """Shorten what a server or a library said to one line."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + "…"
