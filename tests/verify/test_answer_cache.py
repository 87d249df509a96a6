"""Answers that are remembered: asked once, kept over a cut-off run, and never taken from a damaged file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from convert.errors import Failure
from verify.answer_cache import cached
from verify.scenarios.prompt import Answer, Crowd, Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Counting:
    """Answers with how often it was asked."""

    is_chat = True
    context_length = 512

    def __init__(self) -> None:
        self.asked = 0

    def count_tokens(self, text: str) -> int:
        return len(text)

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Answer:
        self.asked += 1
        return Answer(f"{messages[-1]['content']} {max_tokens}", "end", self.asked)

    def complete(self, prompt: str, max_tokens: int, stop: tuple[str, ...]) -> Answer:
        self.asked += 1
        return Answer(f"{prompt} {max_tokens} {stop}", "length", self.asked)


def test_the_same_question_is_asked_once(tmp_path: Path) -> None:
    model, path = Counting(), tmp_path / "new" / "a.answers"
    chat = [{"role": "user", "content": "你好"}]
    for _ in range(2):
        with cached(model, path) as asked:
            assert asked.chat(chat, 5) == Answer("你好 5", "end", 1)
            assert asked.complete("a", 5, ("b",)) == Answer("a 5 ('b',)", "length", 2)
            assert (asked.is_chat, asked.context_length, asked.count_tokens("abc")) == (True, 512, 3)
        assert model.asked == 2
    with cached(model, path) as asked:
        asked.chat(chat, 6)
        asked.complete("a", 5, ())
        asked.complete("a", 5, ("b",))
    assert model.asked == 4
    assert [each.name for each in path.parent.iterdir()] == ["a.answers"]


def test_a_run_that_is_cut_off_keeps_what_it_heard(tmp_path: Path) -> None:
    model, path = Counting(), tmp_path / "a.answers"

    def run() -> None:
        with cached(model, path) as asked:
            asked.complete("a", 1, ())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    with cached(model, path) as asked:
        asked.complete("a", 1, ())
    assert model.asked == 1


def test_an_answer_is_kept_as_soon_as_it_comes(tmp_path: Path) -> None:
    model, path = Counting(), tmp_path / "a.answers"
    with cached(model, path) as asked:
        asked.complete("a", 1, ())
        with path.open("ab") as file:  # a run that is killed in the middle of the next
            file.write(b'0123 ["x", {"te')
        with cached(model, path) as other:
            assert other.complete("a", 1, ()).text == "a 1 ()"
            assert other.complete("b", 1, ()).tokens == 2
    with cached(model, path) as again:
        again.complete("b", 1, ())
    assert model.asked == 2


class Crowded(Counting):
    """Two seats; the one that was asked last is finished first."""

    seats = 2

    def __init__(self) -> None:
        super().__init__()
        self.under_way: dict[int, Prompt] = {}

    def advance(self, asked: Mapping[int, Prompt]) -> Mapping[int, Answer | Failure]:
        self.under_way |= asked
        seat, prompt = self.under_way.popitem()
        if prompt.sent == "fail":
            return {seat: Failure("no room")}
        self.asked += 1
        return {seat: Answer(f"{prompt.sent}!", "end", 1)}


def test_several_at_once_are_remembered_too(tmp_path: Path) -> None:
    model, path = Crowded(), tmp_path / "a.answers"
    a, b, fail = (Prompt(text, 5, ()) for text in ("a", "b", "fail"))
    with cached(model, path) as asked:
        assert isinstance(asked, Crowd)
        assert asked.advance({0: a, 1: b}) == {1: Answer("b!", "end", 1)}
        assert asked.advance({1: b}) == {1: Answer("b!", "end", 1)}  # known, and a is still under way
        assert asked.advance({1: fail})[1].message == "no room"  # type: ignore[union-attr]
        assert asked.advance({}) == {0: Answer("a!", "end", 1)}
    with cached(model, path) as asked:
        assert isinstance(asked, Crowd)
        assert set(asked.advance({0: a, 1: b})) == {0, 1}
    assert model.asked == 2


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"x": {"text": 1, "other": 2}}', '{"x": []}', "\udcff"])
def test_a_damaged_file_is_an_empty_cache(damage: str, tmp_path: Path) -> None:
    model, path = Counting(), tmp_path / "a.answers"
    path.write_bytes(damage.encode("utf-8", "surrogateescape"))
    with cached(model, path) as asked:
        assert asked.complete("a", 1, ()).text == "a 1 ()"


def test_an_answer_that_was_changed_is_asked_for_again(tmp_path: Path) -> None:
    model, path = Counting(), tmp_path / "a.answers"
    with cached(model, path) as asked:
        asked.complete("a", 1, ())
    path.write_text(path.read_text("utf-8").replace("a 1 ()", "b 1 ()"), "utf-8")
    with cached(model, path) as asked:
        assert asked.complete("a", 1, ()).text == "a 1 ()"
    assert model.asked == 2


def test_a_cache_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with cached(Counting(), tmp_path / "file" / "a.answers") as asked:
        assert asked.complete("a", 1, ()).tokens == 1
