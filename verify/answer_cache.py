"""A cache of a model's answers: asked greedily, the same files give the same answer to the same question.

Each answer has its own line, written as it comes, so that a run that is killed loses none.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from convert.errors import Failure
from verify.revision import REVISION
from verify.scenarios.prompt import Answer, Answerer, Crowd, Prompt


@contextmanager
def cached(answerer: Answerer, path: Path) -> Iterator[Answerer]:
    """Take answers from the file where it has them, and add new ones as they come."""
    answers = _read(path)
    file: BinaryIO | None = None
    with suppress(OSError):  # a cache that cannot be written must not end a verification
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab", buffering=0)
    try:
        if isinstance(answerer, Crowd):
            yield _CachingCrowd(answerer, answers, file)
        else:
            yield _CachingAnswerer(answerer, answers, file)
    finally:
        if file:
            file.close()


class _CachingAnswerer:
    """An answerer that passes on only the questions it has no answer to."""

    def __init__(self, answerer: Answerer, answers: dict[str, Answer], file: BinaryIO | None) -> None:
        self.is_chat = answerer.is_chat
        self.context_length = answerer.context_length
        self.count_tokens = answerer.count_tokens
        self._answerer, self._answers, self._file = answerer, answers, file

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Answer:
        """Answer a chat."""
        key = _key("chat", list(messages), max_tokens)
        return self._answers.get(key) or self._keep(key, self._answerer.chat(messages, max_tokens))

    def complete(self, prompt: str, max_tokens: int, stop: tuple[str, ...]) -> Answer:
        """Continue a text."""
        key = _key("complete", prompt, max_tokens, stop)
        return self._answers.get(key) or self._keep(key, self._answerer.complete(prompt, max_tokens, stop))

    def _keep(self, key: str, answer: Answer) -> Answer:
        self._answers[key] = answer
        line = json.dumps([key, asdict(answer)], ensure_ascii=False)
        if self._file:
            with suppress(OSError):
                self._file.write(f"\n{_digest(line)} {line}\n".encode())
        return answer


class _CachingCrowd(_CachingAnswerer):
    """The same for several at once."""

    def __init__(self, crowd: Crowd, answers: dict[str, Answer], file: BinaryIO | None) -> None:
        super().__init__(crowd, answers, file)
        self.seats = crowd.seats
        self._crowd = crowd
        self._held: dict[int, Prompt] = {}  # not passed on yet
        self._asked: dict[int, str] = {}  # the keys of those that were

    def advance(self, asked: Mapping[int, Prompt]) -> Mapping[int, Answer | Failure]:
        """Return what is known at once; the rest is passed on when nothing is."""
        self._held |= asked
        keys = {seat: _key_of(prompt) for seat, prompt in self._held.items()}
        known = {seat: self._answers[key] for seat, key in keys.items() if key in self._answers}
        self._held = {seat: prompt for seat, prompt in self._held.items() if seat not in known}
        if known:
            return known
        passed_on, self._held = self._held, {}
        self._asked |= keys
        replies = self._crowd.advance(passed_on)
        for seat, reply in replies.items():
            key = self._asked.pop(seat)
            if isinstance(reply, Answer):
                self._keep(key, reply)
        return replies


def _key_of(prompt: Prompt) -> str:
    if isinstance(prompt.sent, str):
        return _key("complete", prompt.sent, prompt.max_tokens, prompt.stop)
    return _key("chat", list(prompt.sent), prompt.max_tokens)


def _key(call: str, *question: object) -> str:
    return _digest(json.dumps([REVISION, call, *question], ensure_ascii=False))


def _read(path: Path) -> dict[str, Answer]:
    """Read the file's sound lines; a damaged one is an answer that is not known."""
    found: dict[str, Answer] = {}
    with suppress(OSError):
        for line in path.read_bytes().split(b"\n"):
            with suppress(ValueError, TypeError):
                digest, _, text = line.decode().partition(" ")
                if digest and digest == _digest(text):
                    key, given = json.loads(text)
                    found[key] = Answer(**given)
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
