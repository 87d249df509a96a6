"""A conversation with one artifact, in its own runtime and an isolated process, as verification opens it."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convert.child import Limits
from convert.errors import Failure, UsageFailure
from verify import files
from verify.runtimes import Piece, Request, RuntimeSettings, check_runtime, choose_runtime
from verify.worker import Launch, Worker

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

Message = dict[str, str]

# A person waits as long as a person likes, and may leave it open for days.
PATIENT = Limits(request_s=24 * 3600.0, total_s=365 * 24 * 3600.0)


@dataclass(frozen=True)
class Manner:
    """How the artifact is to answer."""

    system: str = ""
    max_tokens: int = 512
    temperature: float = 0.0  # 0: the most likely token, always
    seed: int = 0


class Conversation:
    """One opened artifact and what was said: turns by its own template, or texts that it continues."""

    def __init__(self, worker: Worker, manner: Manner) -> None:
        """Begin with nothing said."""
        self.info = worker.info
        self.forgotten = 0  # turns that had to go, since the context is full
        self._worker, self._manner = worker, manner
        self._turns: list[tuple[str, str]] = []
        self._asked = 0
        if "generate" not in self.info.can:
            raise Failure(f"{self.info.runtime} does not answer", "name another runtime with --runtime")
        if manner.system and not self.is_chat:
            raise UsageFailure(
                "the model has no chat template: it continues texts, and takes no system prompt",
                "leave --system out, and give it the beginning of a text",
            )

    @property
    def is_chat(self) -> bool:
        """Return whether it takes turns; a server does not show its template, and is taken to have one."""
        return "template" in self.info.can or "tokenize" not in self.info.can

    def ask(self, words: str) -> Generator[Piece, None, None]:
        """Answer piece by piece; where the iterator is closed early, what came so far was the answer."""
        answer, has_begun = "", False
        request = self._request(words)
        self._asked += 1
        try:
            with closing(self._worker.generate(request)) as pieces:
                for piece in pieces:
                    answer, has_begun = answer + piece.text, True
                    yield piece
        finally:
            if has_begun and self.is_chat:
                self._turns.append((words, answer))

    def forget(self) -> None:
        """Forget what was said."""
        self._turns.clear()

    def _request(self, words: str) -> Request:
        manner = self._manner
        chosen = {
            "max_tokens": manner.max_tokens,
            "temperature": manner.temperature,
            "seed": manner.seed + self._asked,
        }
        if not self.is_chat:
            return Request(text=words, **chosen)  # type: ignore[arg-type]
        return Request(messages=tuple(self._messages(words)), **chosen)  # type: ignore[arg-type]

    def _messages(self, words: str) -> Sequence[Message]:
        """Lay out what was said, without the oldest turns where all of them leave no room for an answer."""
        head = [{"role": "system", "content": self._manner.system}] if self._manner.system else []
        while True:
            said = [
                {"role": role, "content": content}
                for turn in self._turns
                for role, content in zip(("user", "assistant"), turn, strict=True)
            ]
            messages = [*head, *said, {"role": "user", "content": words}]
            if not self._turns or self._has_room(messages):
                return messages
            self._turns.pop(0)
            self.forgotten += 1

    def _has_room(self, messages: Sequence[Message]) -> bool:
        if "tokenize" not in self.info.can:
            return True  # a server says itself what is too long
        context = self.info.context
        prompt = self._worker.tokenize(self._worker.apply_template(messages), special=True)
        return len(prompt) + min(self._manner.max_tokens, context // 2) <= context


@contextmanager
def talk_to(
    place: Path | str,
    manner: Manner,
    *,
    runtime: str | None = None,
    settings: RuntimeSettings | None = None,
    secret_names: tuple[str, ...] = (),
) -> Iterator[Conversation]:
    """Open an artifact's folder, a model file or a server's address; its headers are checked first."""
    with ExitStack() as resources:
        if runtime is not None:
            check_runtime(runtime)
        found = files.check_files(place, is_hashed=False)
        for check in found.checks:
            if not check.passed:
                raise Failure(f"{place}: {check.why}")
        chosen, _ = choose_runtime(place, found.manifest.format if found.manifest else None, runtime)
        path = place if isinstance(place, str) else place.absolute()
        if found.manifest and isinstance(path, Path):
            path = resources.enter_context(files.named_only(path, found.manifest))
        launch = Launch(chosen, path, settings or RuntimeSettings(), PATIENT, secret_names)
        yield Conversation(resources.enter_context(Worker(launch)), manner)
