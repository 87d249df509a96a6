"""A repo's artifacts of one format, and the values that the templates of their guides may use."""

from dataclasses import dataclass
from typing import Any

from convert.formats.shipping import Shipping
from convert.publish.bundle import Bundle, Candidate
from convert.publish.card.chat import Chat
from convert.publish.card.facts import Facts
from convert.publish.card.label import label, shipping_of, weights

# A window that any machine has room for; a model's own may be a hundred times that.
COMMON_CONTEXT = 4096
ANSWER_TOKENS = 200
CHINESE = ("zh", "yue", "wuu")


@dataclass(frozen=True)
class FormatGroup:
    """A repo's artifacts of one format, and the facts about the model in them."""

    bundle: Bundle
    candidate: Candidate  # the one that commands name
    members: tuple[Candidate, ...]
    facts: Facts
    chat: Chat | None  # None for a model that only continues text
    languages: tuple[str, ...] = ()

    @property
    def shipping(self) -> Shipping:
        return shipping_of(self.candidate)

    @property
    def context(self) -> int:
        """Return a window to begin with."""
        return min(self.facts.context or COMMON_CONTEXT, COMMON_CONTEXT)

    @property
    def prompt(self) -> str:
        """Return something to ask, or to continue, in a language of the model's."""
        is_chinese = bool(self.languages) and self.languages[0] in CHINESE
        if self.facts.is_chat:
            return "什么是行星？" if is_chinese else "What is a planet?"
        return "很久以前，" if is_chinese else "Once upon a time,"

    @property
    def revision(self) -> str | None:
        """Return the branch, where it is not the one that every tool takes by default."""
        return None if self.bundle.revision == "main" or not self.is_on_hub else self.bundle.revision

    @property
    def is_on_hub(self) -> bool:
        """Return whether tools find the repo by its name."""
        return self.bundle.origin.kind == "hub"

    @property
    def folder(self) -> str:
        """Return where a download goes: a folder of the repo's name."""
        return self.bundle.repo.rpartition("/")[2]

    def values(self) -> dict[str, Any]:
        """Return the names that templates may use."""
        manifest, layout = self.candidate.manifest, self.chat.layout if self.chat else None
        files = [self.candidate.shipped_path(file.path) for file in weights(self.candidate)]
        return {
            # What tools take: the Hub's name, or the folder that a download makes.
            "repo": self.bundle.repo if self.is_on_hub else self.folder,
            "origin": self.bundle.origin,
            "is_on_hub": self.is_on_hub,
            "title": self.bundle.title,
            "revision": self.revision,
            "folder": self.folder,
            "label": label(self.candidate),
            "format": manifest.format,
            "options": manifest.options,
            "is_quantized": self.shipping.is_quantized,
            "prefix": self.candidate.prefix.rstrip("/"),
            "files": files,
            "is_whole": len(files) == 1,
            "local": f"{self.folder}/{files[0]}",  # of several files the first, which names the others
            "base": manifest.source.repo,
            # The source's own tokenizer loads without code from its repo where it is a file there.
            "has_plain_tokenizer": any(file.path == "tokenizer.json" for file in manifest.source.files),
            "is_chat": self.facts.is_chat,
            "is_chatml": layout is not None and layout.is_chatml,
            "fastchat_prompt": self.facts.fastchat_prompt,
            "prompt": self.prompt,
            "context": self.context,
            "answer_tokens": ANSWER_TOKENS,
        }
