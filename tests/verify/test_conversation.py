"""A conversation: what is remembered, what goes out of mind, and what an artifact refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from convert.errors import Failure, UsageFailure
from verify.conversation import Conversation, Manner, talk_to
from verify.runtimes import Info, Piece, Request

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

CALLS = ("tokenize", "generate", "template")


class Fake:
    """A worker that answers with the number of the question, a letter a token."""

    def __init__(self, *can: str, context: int = 1000) -> None:
        self.info = Info("fake", can, context)
        self.requests: list[Request] = []

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        assert special
        return list(text.encode())

    def apply_template(self, messages: Sequence[dict[str, str]]) -> str:
        return "".join(each["content"] for each in messages)

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        self.requests.append(request)
        yield Piece(1, "answer ", 0.1)
        yield Piece(2, str(len(self.requests)), 0.2, "end")


def said(request: Request) -> list[str]:
    return [each["content"] for each in request.messages or ()]


def test_turns_are_remembered_and_can_be_forgotten() -> None:
    worker = Fake(*CALLS)
    conversation = Conversation(worker, Manner(system="Be brief.", temperature=1.0, seed=7))  # type: ignore[arg-type]
    assert "".join(piece.text for piece in conversation.ask("one")) == "answer 1"
    list(conversation.ask("two"))
    assert said(worker.requests[1]) == ["Be brief.", "one", "answer 1", "two"]
    assert [each["role"] for each in worker.requests[1].messages or ()] == [
        *("system", "user", "assistant", "user")
    ]
    assert [each.seed for each in worker.requests] == [7, 8]
    conversation.forget()
    list(conversation.ask("three"))
    assert said(worker.requests[2]) == ["Be brief.", "three"]


def test_an_answer_that_is_stopped_is_remembered_as_far_as_it_came() -> None:
    worker = Fake(*CALLS)
    conversation = Conversation(worker, Manner())  # type: ignore[arg-type]
    pieces = conversation.ask("one")
    next(pieces)
    pieces.close()
    list(conversation.ask("two"))
    assert said(worker.requests[1]) == ["one", "answer ", "two"]


def test_the_oldest_turns_go_where_no_room_is_left() -> None:
    worker = Fake(*CALLS, context=60)
    conversation = Conversation(worker, Manner(system="SYS", max_tokens=20))  # type: ignore[arg-type]
    for word in ("a" * 10, "b" * 10, "c" * 10):
        list(conversation.ask(word))
    assert said(worker.requests[2]) == ["SYS", "b" * 10, "answer 2", "c" * 10]
    assert conversation.forgotten == 1
    list(conversation.ask("d" * 100))  # which the runtime itself refuses
    assert said(worker.requests[3]) == ["SYS", "d" * 100]


def test_a_model_without_a_template_continues_texts() -> None:
    worker = Fake("tokenize", "generate")
    conversation = Conversation(worker, Manner())  # type: ignore[arg-type]
    list(conversation.ask("one"))
    list(conversation.ask("two"))
    assert [each.text for each in worker.requests] == ["one", "two"]
    with pytest.raises(UsageFailure, match="takes no system prompt"):
        Conversation(worker, Manner(system="Be brief."))  # type: ignore[arg-type]


def test_a_server_is_asked_in_turns_and_counts_its_tokens_itself() -> None:
    worker = Fake("generate", context=1)
    conversation = Conversation(worker, Manner())  # type: ignore[arg-type]
    list(conversation.ask("one"))
    list(conversation.ask("two"))
    assert said(worker.requests[1]) == ["one", "answer 1", "two"]


def test_a_runtime_that_only_scores_is_refused() -> None:
    with pytest.raises(Failure, match="fake does not answer"):
        Conversation(Fake("tokenize", "logits"), Manner())  # type: ignore[arg-type]


def test_a_damaged_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF and no more")
    with pytest.raises(Failure, match="it is not opened"), talk_to(tmp_path / "m.gguf", Manner()):
        pass
