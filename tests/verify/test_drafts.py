"""Guesses make an answer come sooner, and never another answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from verify.runtimes import Info, Request
from verify.runtimes._drafts import Draft, depth
from verify.runtimes._seats import WORTH_COPYING, Entry, Seats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SIZE, END = 64, 63
CYCLE = [5, 9, 2, 7, 11, 3]  # the text of the model below goes round in it


def test_a_text_goes_on_as_it_did_before() -> None:
    draft = Draft([1, 2, 3, 4, 5, 1, 2, 3])
    assert draft.guess(4) == [4, 5, 1, 2]
    draft.add(4)
    assert draft.guess(2) == [5, 1]
    draft.add(9)
    assert draft.guess(2) == []
    assert Draft([1, 2, 3]).guess(4) == []


def test_the_likely_answer_is_followed_from_its_first_token_and_found_again() -> None:
    draft = Draft([1, 2, 3], [7, 8, 9, 10, 11, 12])
    assert draft.guess(3) == [7, 8, 9]
    for token in (7, 8):
        draft.add(token)
    assert draft.guess(2) == [9, 10]
    for token in (20, 10, 11):  # another word, and back
        draft.add(token)
    assert draft.guess(1) == [12]


def test_more_is_guessed_where_guesses_come_true_and_few_texts_grow() -> None:
    assert depth([(0, 0.9), (0, 0.9)], 8) == 0
    assert depth([(8, 0.95)], 8) > depth([(8, 0.7)], 8) > 0
    assert depth([(8, 0.95)], 8) > depth([(8, 0.95)] * 16, 8)
    assert depth([(8, 0.1)], 8) == 0
    assert depth([(8, 0.95)] + [(0, 0.7)] * 15, 8) == 0


def test_trust_is_learned_from_guesses_that_nobody_read() -> None:
    wrong, right = Draft([1, 2, 3]), Draft([*CYCLE, *CYCLE])
    for number in range(20):
        for token in (1, 2, 100 + number):  # only what comes after 1, 2 was there before
            wrong.add(token)
        right.add(CYCLE[number % len(CYCLE)])
    assert wrong.trust < 0.1
    assert right.trust > 0.9


class Model:
    """Goes round in a cycle, with another word where the number of tokens is a multiple of eleven."""

    info = Info(
        runtime="fake",
        can=(),
        context=200,
        context_length=200,
        vocab_size=SIZE,
        bos_id=None,
        eos_id=END,
        eog_ids=(END,),
        adds_bos=False,
        chat_template=None,
        kv_bytes_per_token=None,
        notes={},
    )

    def __init__(self, guesses: int, *, forgets: bool = True) -> None:
        self.GUESSES, self.GUESSING_SEATS, self._forgets = guesses, 16, forgets
        self._texts: dict[int, list[int]] = {}
        self._given: NDArray[np.float32] = np.zeros((0, SIZE), np.float32)
        self.steps = self.read = 0

    def tokenize(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        assert not special
        assert not add_bos
        return [int(word) for word in text.split()]

    def read_seat(self, seat: int, ids: Sequence[int], at: int) -> NDArray[np.float32]:
        self.read += len(ids)
        self._given.fill(0)  # what was given before is overwritten, as llama.cpp does
        self._texts[seat] = [*self._texts.get(seat, [])[:at], *ids]
        return self._row(self._texts[seat])

    def step_seats(self, entries: Sequence[Entry]) -> Sequence[Sequence[NDArray[np.float32]]]:
        self.steps += 1
        assert len({len(entry.tokens) for entry in entries}) == 1
        rows = [
            [self._add(each.seat, token, each.at + n) for n, token in enumerate(each.tokens)]
            for each in entries
        ]
        self._given = np.array(rows)
        return [list(each) for each in self._given]

    def copy_seat(self, seat: int, other: int) -> bool:
        self._texts[seat] = list(self._texts[other]) if self._forgets else []
        return self._forgets

    def keep_seat(self, seat: int, count: int) -> int:
        count = count if self._forgets else 0
        self._texts[seat] = self._texts.get(seat, [])[:count]
        return count

    def _add(self, seat: int, token: int, at: int) -> NDArray[np.float32]:
        text = self._texts[seat]
        assert len(text) == at < self.info.context
        text.append(token)
        return self._row(text)

    def _row(self, text: Sequence[int]) -> NDArray[np.float32]:
        row = np.zeros(SIZE, np.float32)
        is_odd_one = len(text) % 11 == 0
        following = CYCLE[(CYCLE.index(text[-1]) + 1) % len(CYCLE)] if text[-1] in CYCLE else CYCLE[0]
        row[END if len(text) >= 90 else 30 + len(text) % 7 if is_odd_one else following] = 1
        return row


def answers(model: Model, likely: str = "") -> dict[int, tuple[str, str | None, int | None]]:
    """Ask three questions, two at a time."""
    seats = Seats(model, lambda: lambda token: f"{token} ".encode())
    asked = [
        Request(ids=tuple(CYCLE[:n]), max_tokens=most, likely=likely)
        for n, most in ((2, 200), (4, 50), (5, 70))
    ]
    found: dict[int, tuple[str, str | None, int | None]] = {}
    done = seats.advance([(0, asked[0]), (1, asked[1])])
    added = False
    while done or len(found) < 3:
        for one in done:
            found[len(found)] = one.text, one.end, one.tokens
        if len(found) == 3:
            break
        more = [] if added else [(done[0].seat, asked[2])]
        added = True
        done = seats.advance(more)
    return found


@pytest.mark.parametrize("likely", ["", "5 9 2 7 11 3 5 9 2 7", "1 2 3 4 5 6 7 8", "60"])
@pytest.mark.parametrize("forgets", [True, False])
def test_answers_are_the_same_with_and_without_guesses(likely: str, *, forgets: bool) -> None:
    plain, guessing = Model(0), Model(8, forgets=forgets)
    assert answers(guessing, likely) == answers(plain)
    assert guessing.steps <= plain.steps
    if forgets:
        assert guessing.steps < 0.6 * plain.steps


@pytest.mark.parametrize("copies", [True, False])
def test_what_another_seat_has_read_is_not_read_again(*, copies: bool) -> None:
    model = Model(0, forgets=copies)
    seats = Seats(model, lambda: lambda token: f"{token} ".encode())
    long = tuple(CYCLE * 8)[:WORTH_COPYING]
    first, second = Request(ids=(*long, 3, 5), max_tokens=4), Request(ids=(*long, 7), max_tokens=6)
    done = seats.advance([(0, first), (1, second)])
    done += seats.advance([])
    alone = [
        Seats(Model(0), lambda: lambda token: f"{token} ".encode()).advance([(0, each)])[0]
        for each in (first, second)
    ]
    assert [(one.text, one.tokens) for one in done] == [(one.text, one.tokens) for one in alone]
    assert model.read == len(long) + 2 + (1 if copies else len(long) + 1)
