"""A cache of a model's answers: asked greedily, the same files give the same answer to the same question."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from verify.atomic import replacing
from verify.scenarios.prompt import Answer, Answerer


@contextmanager
def cached(answerer: Answerer, path: Path) -> Iterator[Answerer]:
    """Take answers from the file where it has them, and save new ones even if the run is cut off."""
    answers = _read(path)
    count = len(answers)
    try:
        yield _CachingAnswerer(answerer, answers)
    finally:
        if len(answers) > count:
            _write(path, answers)


class _CachingAnswerer:
    """An answerer that passes on only the questions it has no answer to."""

    def __init__(self, answerer: Answerer, answers: dict[str, Answer]) -> None:
        self.is_chat = answerer.is_chat
        self.context_length = answerer.context_length
        self.count_tokens = answerer.count_tokens
        self._answerer, self._answers = answerer, answers

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Answer:
        """Answer a chat."""
        return self._cached("chat", list(messages), max_tokens)

    def complete(self, prompt: str, max_tokens: int, stop: tuple[str, ...]) -> Answer:
        """Continue a text."""
        return self._cached("complete", prompt, max_tokens, stop)

    def _cached(self, call: str, *question: object) -> Answer:
        text = json.dumps([call, *question], ensure_ascii=False)
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in self._answers:
            self._answers[key] = getattr(self._answerer, call)(*question)
        return self._answers[key]


def _read(path: Path) -> dict[str, Answer]:
    """Read the file; a damaged or missing one is an empty cache."""
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["sha256"] != _digest(content["answers"]):
            return {}
        return {str(key): Answer(**given) for key, given in content["answers"].items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}


def _write(path: Path, answers: dict[str, Answer]) -> None:
    """Write the file if possible; a cache that cannot be written must not end a verification."""
    with suppress(OSError), replacing(path) as file:
        content = {key: asdict(one) for key, one in answers.items()}
        file.write(json.dumps({"answers": content, "sha256": _digest(content)}).encode())
        file.flush()
        os.fsync(file.fileno())


def _digest(answers: object) -> str:
    return hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()
