"""A cache of a model's answers: asked greedily, the same files give the same answer to the same question."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from verify.atomic import replacing
from verify.scenarios.prompt import Answer, Answerer


@contextmanager
def cached(answerer: Answerer, path: Path) -> Iterator[Answerer]:
    """Take answers from the file where it has them, and save new ones even if the run is cut off."""
    caching = _CachingAnswerer(answerer, _read(path))
    try:
        yield caching
    finally:
        if caching.is_new:
            _write(path, caching.answers)


class _CachingAnswerer:
    """An answerer that passes on only the questions it has no answer to."""

    def __init__(self, answerer: Answerer, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.is_new = False
        self.is_chat = answerer.is_chat
        self.context_length = answerer.context_length
        self.count_tokens = answerer.count_tokens
        self._answerer = answerer

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Answer:
        """Answer a chat."""
        key = _key("chat", list(messages), max_tokens)
        return self._cached(key, lambda: self._answerer.chat(messages, max_tokens))

    def complete(self, prompt: str, max_tokens: int, stop: tuple[str, ...]) -> Answer:
        """Continue a text."""
        key = _key("complete", prompt, max_tokens, list(stop))
        return self._cached(key, lambda: self._answerer.complete(prompt, max_tokens, stop))

    def _cached(self, key: str, ask: Callable[[], Answer]) -> Answer:
        if key not in self.answers:
            self.answers[key] = ask()
            self.is_new = True
        return self.answers[key]


def _key(*question: object) -> str:
    return hashlib.sha256(json.dumps(question, ensure_ascii=False).encode()).hexdigest()


def _read(path: Path) -> dict[str, Answer]:
    """Read the file; a damaged or missing one is an empty cache."""
    try:
        content = json.loads(path.read_text("utf-8"))
        return {str(key): Answer(**given) for key, given in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(path: Path, answers: dict[str, Answer]) -> None:
    """Write the file if possible; a cache that cannot be written must not end a verification."""
    with suppress(OSError), replacing(path) as file:
        file.write(json.dumps({key: asdict(one) for key, one in answers.items()}).encode())
