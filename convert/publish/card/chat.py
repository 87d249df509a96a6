"""A chat template's layout, found by trying it: Ollama and the Hub read Go templates; models ship Jinja."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from convert.child import ChildFailure, FaultKind, sandbox
from convert.errors import Failure
from convert.publish.card.facts import Facts

CPU_S = 5
# So long that no busy machine is taken for an endless template: a card must not depend on the hour.
WALL_S = 180
SYSTEM, USER, REPLY, AGAIN = "SYSTEM7F3A", "USER7F3B", "REPLY7F3C", "AGAIN7F3D"
# Shown on the card, where people look for the format that they know.
SHOWN_SYSTEM, SHOWN_USER = "{system prompt}", "{prompt}"


def _chat(*words: str, system: str = "", asks: bool = True) -> dict[str, Any]:
    turns = [
        {"role": ("user", "assistant")[number % 2], "content": word} for number, word in enumerate(words)
    ]
    head = [{"role": "system", "content": system}] if system else []
    return {"messages": [*head, *turns], "asks": asks}


# A layout is taken apart by the probes, and shown to be complete by the trials.
PROBES = (
    _chat(USER, REPLY, AGAIN),
    _chat(USER, REPLY, asks=False),
    _chat(USER, system=SYSTEM),
)
TRIALS = (
    _chat("What is a planet?"),
    _chat("你好", "你好！\n\nWhat now?", "Two\nlines, please.", "One,\ntwo.", "Thanks!"),
    _chat("Hello", system="You are a teacher."),
    _chat("Hello", "Hi.", "Why?", "So.", "Oh?", system="Be brief.\nBe kind."),
)
SHOWN = (_chat(SHOWN_USER, system=SHOWN_SYSTEM), _chat(SHOWN_USER))


@dataclass(frozen=True)
class Layout:
    """A template that lays a chat out in a straight line."""

    head: str  # up to the first question, where there is no system prompt
    head_system: tuple[str, str] | None  # around a system prompt; None where the template takes none
    before_user: str  # before every question but the first
    after_user: str  # which makes the model answer
    before_reply: str  # in addition, before an answer that was given
    after_reply: str

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Lay out a chat that ends with a question, as the template would."""
        rest, system = list(messages), ""
        if rest and rest[0]["role"] == "system":
            system = rest.pop(0)["content"]
        if system and self.head_system:
            made = self.head_system[0] + system + self.head_system[1]
        else:
            made = self.head
        is_first = True
        for message in rest:
            if message["role"] == "user":
                made += ("" if is_first else self.before_user) + message["content"] + self.after_user
                is_first = False
            else:
                made += self.before_reply + message["content"] + self.after_reply
        return made

    def to_go(self) -> str:
        """Write the layout as an Ollama template."""
        head = _go(self.head)
        if self.head_system:
            before, after = map(_go, self.head_system)
            head = f"{{{{ if .System }}}}{before}{{{{ .System }}}}{after}{{{{ else }}}}{head}{{{{ end }}}}"
        return (
            f"{{{{ $first := true }}}}{head}{{{{ range .Messages }}}}"
            f'{{{{ if eq .Role "user" }}}}{{{{ if $first }}}}{{{{ $first = false }}}}{{{{ else }}}}'
            f"{_go(self.before_user)}{{{{ end }}}}{{{{ .Content }}}}{_go(self.after_user)}"
            f'{{{{ else if eq .Role "assistant" }}}}'
            f"{_go(self.before_reply)}{{{{ .Content }}}}{_go(self.after_reply)}{{{{ end }}}}{{{{ end }}}}"
        )

    @property
    def is_chatml(self) -> bool:
        """Recognize ChatML, the layout that most servers know by name."""
        return self.after_user == "<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Chat:
    """A model's prompt, and its layout where it could be taken apart."""

    shown: str  # a prompt with placeholders; empty where the template could not be tried
    layout: Layout | None = None  # None: not a straight line


def look_at(facts: Facts) -> Chat | None:
    """Try the template; return None for a model that takes no turns."""
    if facts.template is None:
        return None
    chats = (*PROBES, *TRIALS, *SHOWN)
    made = _lay_out(facts, facts.template, chats)
    probed, tried, shown = made[: len(PROBES)], made[len(PROBES) : -len(SHOWN)], made[-len(SHOWN) :]
    layout = _take_apart(probed)
    # llama.cpp and Ollama put the token that begins a text there themselves, where the tokenizer does.
    begin = facts.markup.get("bos_token", "") if facts.adds_bos else ""
    if layout is not None:
        # Two of the trials have no system prompt, and no template may refuse those.
        is_complete = None not in tried[:2] and all(
            text is None or layout.render(chat["messages"]) == text
            for chat, text in zip(TRIALS, tried, strict=True)
        )
        layout = _without(layout, begin) if is_complete else None
    with_system, without = shown
    is_heard = with_system is not None and SHOWN_SYSTEM in with_system
    return Chat(shown=(with_system if is_heard else without) or "", layout=layout)


def _lay_out(facts: Facts, template: str, chats: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Return each chat as text; None where the template refuses it, and for all where it meets a limit."""
    asked = [((chat["messages"],), chat["asks"]) for chat in chats]
    try:
        made = sandbox.lay_out(template, facts.markup, asked, sandbox.template_limits(CPU_S, WALL_S))
    except ChildFailure as failure:
        fault = failure.fault
        if fault.kind is FaultKind.OUT_OF_MEMORY or (fault.code is not None and fault.code < 0):
            return [None] * len(chats)
        raise Failure(f"the chat template could not be tried: {fault.reason}", failure.hint) from None
    except OSError as fault:
        raise Failure(f"the chat template could not be tried: {fault.strerror}", "try again") from None
    return [text if isinstance(text, str) else None for text in made]


def _take_apart(probed: Sequence[str | None]) -> Layout | None:
    """Cut the probes' texts into the pieces between their known words."""
    talk, answered, system = probed
    if talk is None or answered is None:
        return None
    pieces = _split(talk, USER, REPLY, AGAIN)
    ending = _split(answered, USER, REPLY)
    if pieces is None or ending is None:
        return None
    head, answering, between, asking = pieces
    after_reply = ending[2]
    if not (between.startswith(after_reply) and answering.startswith(asking) and ending[1] == answering):
        return None
    around = _split(system, SYSTEM, USER) if system is not None else None
    if around is not None and around[2] != asking:
        return None
    return Layout(
        head,
        (around[0], around[1]) if around else None,
        before_user=between.removeprefix(after_reply),
        after_user=asking,
        before_reply=answering.removeprefix(asking),
        after_reply=after_reply,
    )


def _split(text: str, *words: str) -> list[str] | None:
    """Return the text between the words; None unless each occurs once, in this order."""
    pieces, rest = [], text
    for word in words:
        before, found, rest = rest.partition(word)
        if not found or word in rest:
            return None
        pieces.append(before)
    return [*pieces, rest]


def _without(layout: Layout, begin: str) -> Layout:
    """Take the token that begins a text off the layout's head."""
    around = layout.head_system
    return replace(
        layout,
        head=layout.head.removeprefix(begin),
        head_system=(around[0].removeprefix(begin), around[1]) if around else None,
    )


def _go(piece: str) -> str:
    """Escape a piece for the place between a Go template's actions."""
    return piece.replace("{{", '{{ "{{" }}')
