"""How one runtime is used: some words, and commands that can be copied as they stand."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.publish.card import markdown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convert.publish.bundle import Bundle, Candidate
    from convert.publish.card.chat import Chat
    from convert.publish.card.facts import Facts

# What servers answer on where nothing else is said.
OPENAI_PATH = "/v1/chat/completions"
COMPLETION_PATH = "/v1/completions"
# A window that any machine has room for; a model's own may be a hundred times that.
COMMON_CONTEXT = 4096
CHINESE = ("zh", "yue", "wuu")


@dataclass(frozen=True)
class Block:
    """Code in a language that a reader, or a test, can check."""

    language: str
    content: str

    def to_markdown(self) -> str:
        """The fence around it."""
        return markdown.fence(self.content, self.language)


@dataclass(frozen=True)
class Guide:
    """One runtime's section."""

    title: str
    parts: tuple[str | Block, ...]  # paragraphs are finished Markdown

    def to_markdown(self) -> str:
        """The section under its heading."""
        shown = [part if isinstance(part, str) else part.to_markdown() for part in self.parts]
        return "\n\n".join([f"### {self.title}", *shown])


@dataclass(frozen=True)
class Setting:
    """What every guide needs to know."""

    bundle: Bundle
    candidate: Candidate  # the one that the commands name
    facts: Facts
    chat: Chat | None  # None for a model that only continues text
    languages: tuple[str, ...] = ()

    @property
    def repo(self) -> str:
        return self.bundle.repo

    @property
    def base(self) -> str | None:
        """The source's repo."""
        return self.candidate.manifest.source.repo

    @property
    def has_plain_tokenizer(self) -> bool:
        """Whether the source's own tokenizer loads without code from its repo: it lies there as a file."""
        return any(file.path == "tokenizer.json" for file in self.candidate.manifest.source.files)

    @property
    def is_chat(self) -> bool:
        return self.facts.is_chat

    @property
    def context(self) -> int:
        """A window to begin with."""
        return min(self.facts.context or COMMON_CONTEXT, COMMON_CONTEXT)

    @property
    def prompt(self) -> str:
        """Something to ask, or to continue, in a language of the model's."""
        is_chinese = bool(self.languages) and self.languages[0] in CHINESE
        if self.is_chat:
            return "什么是行星？" if is_chinese else "What is a planet?"
        return "很久以前，" if is_chinese else "Once upon a time,"

    @property
    def revision(self) -> str | None:
        """The branch, where it is not the one that every tool takes unasked."""
        return None if self.bundle.revision == "main" else self.bundle.revision

    @property
    def folder(self) -> str:
        """Where a download goes: a folder of the repo's name."""
        return self.repo.rpartition("/")[2]

    def download(self, *paths: str) -> list[str]:
        """The command that fetches these files, or all."""
        revision = ("--revision", self.revision) if self.revision else ()
        return ["hf", "download", self.repo, *paths, *revision, "--local-dir", self.folder]

    @property
    def ask(self) -> tuple[str, Mapping[str, object]]:
        """An OpenAI-compatible server's path, and what is sent to it; the model's name comes first."""
        if self.is_chat:
            return OPENAI_PATH, {"messages": [{"role": "user", "content": self.prompt}], "max_tokens": 200}
        return COMPLETION_PATH, {"prompt": self.prompt, "max_tokens": 200}

    def call(self, port: int, model: str) -> Block:
        """Ask a server of this machine."""
        path, body = self.ask
        sent = json.dumps({"model": model, **body}, ensure_ascii=False)
        address = f"http://localhost:{port}{path}"
        return shell(["curl", address, "-H", "Content-Type: application/json", "-d", sent])


def shell(*commands: list[str]) -> Block:
    """Commands, each on a line of its own, quoted as a shell reads them."""
    return Block("sh", "\n".join(shlex.join(command) for command in commands))


def python(*lines: str) -> Block:
    """A program; what is put into it is put there by `quoted`."""
    return Block("python", "\n".join(lines))


def quoted(value: str | list[str]) -> str:
    """A value as Python reads it: JSON's strings and lists are Python's too."""
    return json.dumps(value, ensure_ascii=False)
