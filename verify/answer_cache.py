"""A model's answers, remembered: the same bytes asked the same question greedily give the same words."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from verify.scenarios.asking import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from verify.scenarios.asking import Answerer


@contextmanager
def recalling(answerer: Answerer, path: Path) -> Iterator[Answerer]:
    """Answer from the file what stands there, ask the rest, and keep it even if the run is cut off."""
    remembered = Recalling(answerer, _read(path))
    try:
        yield remembered
    finally:
        if remembered.is_new:
            _write(path, remembered.answers)


class Recalling:
    """An answerer that asks another one only what it has not heard yet."""

    def __init__(self, answerer: Answerer, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.is_new = False
        self._answerer = answerer
        self.is_chat = answerer.is_chat
        self.context_length = answerer.context_length

    def count_tokens(self, text: str) -> int:
        """How many tokens a text takes."""
        return self._answerer.count_tokens(text)

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Answer:
        """Answer a chat."""
        key = _key("chat", list(messages), max_tokens)
        return self._recall(key, lambda: self._answerer.chat(messages, max_tokens))

    def complete(self, prompt: str, max_tokens: int, stop: tuple[str, ...]) -> Answer:
        """Continue a text."""
        key = _key("complete", prompt, max_tokens, list(stop))
        return self._recall(key, lambda: self._answerer.complete(prompt, max_tokens, stop))

    def _recall(self, key: str, ask: Callable[[], Answer]) -> Answer:
        if key not in self.answers:
            self.answers[key] = ask()
            self.is_new = True
        return self.answers[key]


def _key(*asked: object) -> str:
    return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()


def _read(path: Path) -> dict[str, Answer]:
    """What is not what was written here is asked again."""
    try:
        content = json.loads(path.read_text("utf-8"))
        return {str(key): Answer(**given) for key, given in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(path: Path, answers: dict[str, Answer]) -> None:
    """A cache that cannot be written is none; it must not end a verification."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({key: asdict(one) for key, one in answers.items()}), "utf-8")
        part.replace(path)
