"""What the runtimes share: ends of answers, draws of tokens, and templates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from convert.child.sandbox import render
from tests.verify.opening import CHAT
from verify.decoding import AnswerStream, Sampler, StopBuffer
from verify.runtimes import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def test_a_stop_string_never_shows_in_part() -> None:
    ending = StopBuffer(("\n\nQ:", "END"))
    fed = [ending.feed(text.encode()) for text in ("a", " E", "N", "x", "\n", "\nQ", "uite", " EN", "D b")]
    assert [text for text, _ in fed] == ["a", " ", "", "ENx", "", "", "\n\nQuite", " ", ""]
    assert [stopped for _, stopped in fed] == [False] * 8 + [True]
    assert ending.rest() == ""


def test_characters_come_whole() -> None:
    ending = StopBuffer(())
    raw = "木星🪐".encode()
    assert "".join(ending.feed(raw[at : at + 1])[0] for at in range(len(raw))) == "木星🪐"
    ending.feed(raw[:2])
    assert ending.rest() == "\ufffd"


def test_an_answer_says_why_it_ended() -> None:
    request = Request(ids=(1,), max_tokens=3, stop=("stop",))
    assert AnswerStream(request, (9,)).add(9, b"</s>", 0.1).end == "end"
    assert AnswerStream(request, (9,)).add(5, b"a stop b", 0.1).text == "a "
    answer = AnswerStream(request, ())
    assert [answer.add(5, b"s", 0.1).end for _ in range(3)] == [None, None, "length"]


@pytest.mark.parametrize(
    ("passage", "made"), [([7], 64), ([1, 2, 3], 64), ([*range(40)], 160), ([*range(100)], 400)]
)
def test_an_answer_that_repeats_itself_is_ended(passage: list[int], made: int) -> None:
    before = [50, 51, 52]
    answer = AnswerStream(Request(ids=(1,), max_tokens=800, stops_loops=True), ())
    ends = [answer.add(token, b"a", 0.0).end for token in before + passage * 80]
    assert ends.index("loop") + 1 == len(before) + made
    on = AnswerStream(Request(ids=(1,), max_tokens=400), ())
    assert not any(on.add(token, b"a", 0.0).end for token in (passage * 80)[:399])


def test_an_answer_that_goes_on_is_not_ended() -> None:
    answer = AnswerStream(Request(ids=(1,), max_tokens=900, stops_loops=True), ())
    rows = [token for row in range(80) for token in (5, 6, 100 + row, 7, 8, 300 + row, 9)]
    assert not any(answer.add(token, b"a", 0.0).end for token in rows)


@pytest.mark.parametrize("mark", [b"", b"- ", b"  **"])
def test_numbers_of_lines_do_not_hide_a_repetition(mark: bytes) -> None:
    """A number takes as many tokens as it has digits, of which each is another token."""
    answer = AnswerStream(Request(ids=(1,), max_tokens=2000, stops_loops=True), ())

    def write(lines: Iterable[int], item: Callable[[int], list[bytes]]) -> int:
        """Write lines until the answer is ended; return the line."""
        for line in lines:
            digits = [bytes([digit]) for digit in str(line).encode()]
            for piece in [*([mark] if mark else []), *digits, b".", *item(line), b"\n"]:
                if answer.add(int.from_bytes(piece), piece, 0.0).end:
                    return line
        return 0

    assert not write(range(1, 60), lambda line: [b" %d" % (line * 7), b" is", b" more"])
    assert write(range(1, 60), lambda _: [b" the", b" same", b" as", b" ever"]) in range(8, 13)


def test_a_draw_is_seeded_and_follows_the_weights() -> None:
    row = np.log(np.array([0.7, 0.2, 0.1], np.float32))
    drawn = Sampler(Request(ids=(1,), temperature=1.0, seed=3))
    again = Sampler(Request(ids=(1,), temperature=1.0, seed=3))
    draws = [drawn.choose(row) for _ in range(2000)]
    assert draws == [again.choose(row) for _ in range(2000)]
    assert np.abs(np.bincount(draws) / 2000 - [0.7, 0.2, 0.1]).max() < 0.05
    assert Sampler(Request(ids=(1,))).choose(row) == 0


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ messages.__class__.__mro__ }}", "refuses"),
        ("{{ ''.__class__ }}{{ cycler.__init__.__globals__.os.system('true') }}", "refuses"),
        ("{{ messages.append(1) }}", "refuses"),
        ("{{ raise_exception('only users may speak') }}", "only users may speak"),
        ("{% for %}", "can't be rendered"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ range(1000000) | list }}", "fails: OverflowError"),
        ("{% for i in range(90000) %}{{ 'long text ' * 9 }}{% endfor %}", "of a short chat"),
    ],
)
def test_a_bad_template_is_refused_in_words(template: str, said: str) -> None:
    with pytest.raises(Exception, match=said):
        render(template, CHAT, add_generation_prompt=True, markup={})


def test_what_templates_may_use() -> None:
    template = (
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{% generation %}"
        "{{ m | tojson }}{% endgeneration %}{% endfor %}{{ strftime_now('%Y') }}{{ eos_token }}"
    )
    text = render(template, CHAT, add_generation_prompt=False, markup={"eos_token": "</s>"})
    assert text == json.dumps(CHAT[0], ensure_ascii=False) + "2026</s>"
