"""Answers that grow side by side are those that each question gets alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from convert import convert_recipe, recipe
from convert.formats import option_models
from tests.verify.opening import opened
from verify.runtimes import Request
from verify.runtimes._llama_context import SEAT_TOKENS
from verify.runtimes._seats import MOST_SEATS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.verify.conftest import Made
    from verify.worker import Worker

THREADS = 2  # llama.cpp reads texts in as many groups
QUESTIONS = (
    *("What is the largest planet?", "太阳系有几颗行星？", "a", "Name the planets, please, one by one."),
    *("Which one is the smallest, and which is the largest?", "请把内容部分扩充", "x y z", "八颗"),
    *("The solar system has eight planets. " * 6, "Mercury"),
)


@pytest.fixture(
    scope="module",
    params=[pytest.param("transformers", marks=pytest.mark.slow), "llama_cpp", "onnxruntime_genai"],
)
def worker(
    request: pytest.FixtureRequest, chat: Made, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    place = chat.source if request.param == "transformers" else chat.f32
    if request.param == "onnxruntime_genai":
        home = tmp_path_factory.mktemp("together")
        place = converted(chat.source, home, "onnx: {precision: fp32}") / "onnx-fp32-cpu"
    with opened(request.param, place, threads=THREADS) as worker:
        yield worker


def converted(source: Path, home: Path, target: str) -> Path:
    text = f"model: {source}\ntargets: {{{target}}}\n"
    (home / "tiny.yaml").write_text(text, "utf-8")
    convert_recipe(recipe.load(home / "tiny.yaml", option_models()), out=home, threads=1, offline=True)
    return home / "tiny"


def asked(number: int, *more: dict[str, str], most: int = 24) -> Request:
    question = {"role": "user", "content": QUESTIONS[number]}
    return Request(messages=(question, *more), max_tokens=most + number)


def alone(worker: Worker, request: Request) -> tuple[str, str | None, int]:
    pieces = list(worker.generate(request))
    return "".join(piece.text for piece in pieces), pieces[-1].end, len(pieces)


def test_each_seat_gives_the_answer_that_it_gives_alone(worker: Worker) -> None:
    seats = worker.seats()
    assert seats == MOST_SEATS
    waiting, found = list(range(len(QUESTIONS))), {}
    places: dict[int, int] = {}
    while waiting or places:
        free = [seat for seat in range(seats) if seat not in places]
        added = [(seat, waiting.pop(0)) for seat in free if waiting]
        places |= dict(added)
        for one in worker.advance([(seat, asked(number)) for seat, number in added]):
            found[places.pop(one.seat)] = one.text, one.end, one.tokens
    assert found == {number: alone(worker, asked(number)) for number in range(len(QUESTIONS))}


def test_a_second_turn_goes_on_from_what_was_read(worker: Worker) -> None:
    (first,) = worker.advance([(3, asked(0))])
    later = asked(0, {"role": "assistant", "content": first.text}, {"role": "user", "content": "And then?"})
    (second,) = worker.advance([(3, later)])
    assert (second.text, second.end, second.tokens) == alone(worker, later)
    (again,) = worker.advance([(3, asked(0))])
    assert again == first


def test_a_text_that_begins_as_another_takes_what_that_one_has_read(worker: Worker) -> None:
    begun = "The solar system has eight planets. " * 8
    first, *others = (
        Request(text=begun + end, max_tokens=most) for end, most in (("Mars", 40), ("Venus", 9), ("Earth", 9))
    )
    done = worker.advance([(5, first), (6, others[0]), (7, others[1])])
    while len(done) < 3:
        done += worker.advance([])
    found = {one.seat: (one.text, one.end, one.tokens) for one in done}
    assert found == {seat: alone(worker, each) for seat, each in enumerate((first, *others), 5)}


def test_a_question_that_does_not_fit_fails_alone(worker: Worker) -> None:
    long = Request(text="planet " * 3000, max_tokens=4)
    replies = worker.advance([(0, long), (1, asked(2))])
    assert [(one.seat, one.end is None) for one in replies if one.seat == 0] == [(0, True)]
    assert "do not fit the context" in replies[0].text
    rest = replies[1:] or worker.advance([])
    assert [(one.seat, one.text) for one in rest] == [(1, alone(worker, asked(2))[0])]


def test_a_cache_grows_with_a_text_and_takes_the_others_along(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "recipes" / "models" / "tiny-qwen"
    place = converted(source, tmp_path, "gguf: {quants: [F16]}") / "gguf-F16"
    long = Request(text="The solar system has eight planets. " * 40, max_tokens=4)
    going, short = asked(3, most=60), asked(1, most=1)
    with opened("llama_cpp", place, threads=THREADS) as worker:
        assert SEAT_TOKENS < len(worker.tokenize(long.text or "")) < worker.info.context
        found = {one.seat: one.text for one in worker.advance([(0, going), (1, short)])}
        assert found == {1: alone(worker, short)[0]}
        added = [(1, long)]
        while added or len(found) < 2:
            found |= {one.seat: one.text for one in worker.advance(added)}
            added = []
        assert found == {0: alone(worker, going)[0], 1: alone(worker, long)[0]}


def test_a_text_that_made_room_for_another_is_not_copied(chat: Made) -> None:
    begun = "The solar system has eight planets. " * 8
    gone, long, other = (
        Request(text=begun, max_tokens=1),
        asked(3, most=60),
        Request(text="x " * 40, max_tokens=1),
    )
    # One on an even seat: in the group of these, the text of seat 8 makes room when 10 and 14 go on.
    with opened("llama_cpp", chat.f32, threads=THREADS) as worker:
        for seat, request in ((8, gone), (2, other)):
            assert [one.end for one in worker.advance([(seat, request)])] == ["length"]
        going = {10: replace(long, max_tokens=2), 14: long}
        found = {one.seat: one.text for one in worker.advance([*going.items()])}
        again = Request(text=begun + "Venus", max_tokens=9)
        found |= {one.seat: one.text for one in worker.advance([(2, again)])}
        while len(found) < 3:
            found |= {one.seat: one.text for one in worker.advance([])}
        wanted = {**going, 2: again}
        assert found == {seat: alone(worker, each)[0] for seat, each in wanted.items()}
