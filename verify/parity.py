"""What an artifact must share with its source to the letter: tokens, markup, chat template, ends, context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.child import ChildFailure, FaultKind
from verify.gates import Check, equal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verify.worker import Worker

# In NFC, and none begins with a space: there llama.cpp's reading is its own, which manifests say.
TEXTS = (
    "Hello, world!",
    "The quick brown fox can't jump over 13 lazy dogs' beds; they've tried 1,234.5 times (or 2^10)?",
    "使用以下提供的资料来回答最后的问题。如果无法从中获得答案，请直接回答不知道。",
    "太阳系有八颗行星：水星、金星、地球、火星、木星、土星、天王星和海王星。",
    "问题: 2026年11月21日，GDP增长了3.5%吗？",
    "def main(argv: list[str]) -> int:\n    return {'a': 1}.get(argv[0], 0)  # ok\n",
    "# Title\n\n1. one\n2. two\n\n- a\n- b\n\n| x | y |\n|---|---|\n",
    "tabs\tand  several   spaces    and\n\n\nlines\r\n",
    "Zażółć gęślą jaźń, Übergröße, naïve café, Ελλάδα, Россия, हिन्दी, العربية, 한국어, 日本語",
    "emoji 🙂👩🏽‍🚀🇨🇳 and symbols ©™€√≠→",
    'https://example.org/a_b?c=d&e=%20#f <b>bold</b> &amp; \\n "quoted"',
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0000000000 ////// ......",
    "龘𠮷㐀 ﷽ \u200bzero\u200bwidth",
)
CHATS: tuple[tuple[Mapping[str, str], ...], ...] = (
    ({"role": "user", "content": "什么是行星？"},),
    (
        {"role": "system", "content": "You are a teacher."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello! How can I help?"},
        {"role": "user", "content": "Name the planets,\nplease."},
    ),
)
REFUSED = "(refused) "


@dataclass(frozen=True)
class Traits:
    """What a runtime says of an opened model."""

    context_length: int | None
    vocab_size: int | None
    ends: Mapping[int, str]  # the tokens that end an answer, with their markup
    ids: tuple[tuple[int, ...], ...]  # of each text, and of one with what goes around it
    texts: tuple[str, ...]  # the ids back as text
    markup: Mapping[str, tuple[int, ...]]
    chats: tuple[str, ...] | None  # as the template lays them out; none where there is no template
    chat_ids: tuple[tuple[int, ...], ...]
    pieces: Mapping[int, str]  # the text of each id in chat_ids


def read_traits(worker: Worker, markup: Sequence[str] = ()) -> Traits:
    """Ask an open model; `markup` is what the source calls its special tokens."""
    info = worker.info
    ends = {token: worker.detokenize([token]) for token in info.eog_ids}
    ids = [worker.tokenize(text) for text in TEXTS] + [worker.tokenize(TEXTS[0], add_bos=True)]
    chats = tuple(_laid_out(worker, chat) for chat in CHATS) if "template" in info.can else None
    chat_ids = tuple(tuple(worker.tokenize(chat, special=True)) for chat in chats or ())
    return Traits(
        context_length=info.context_length,
        vocab_size=info.vocab_size,
        ends=ends,
        ids=tuple(map(tuple, ids)),
        texts=tuple(worker.detokenize(each) for each in ids[: len(TEXTS)]),
        markup={text: tuple(worker.tokenize(text, special=True)) for text in markup or ends.values()},
        chats=chats,
        chat_ids=chat_ids,
        pieces={
            token: worker.detokenize([token]) for token in sorted({t for each in chat_ids for t in each})
        },
    )


def compare(found: Traits, source: Traits) -> tuple[Check, ...]:
    """Every check that needs no computing of odds."""
    return (
        equal("vocabulary", found.vocab_size, source.vocab_size, "the size of the vocabulary"),
        _tokenizer(found, source),
        _markup(found, source),
        *_template(found, source),
        _ends(found, source),
        equal("context_length", found.context_length, source.context_length, "the context's length"),
    )


def _tokenizer(found: Traits, source: Traits) -> Check:
    texts = (*TEXTS, f"what goes around {TEXTS[0]!r}")
    rows = zip(texts, found.ids, source.ids, strict=True)
    wrong = [(text, got, wanted) for text, got, wanted in rows if got != wanted]
    if wrong:
        text, got, wanted = wrong[0]
        at = _parting(got, wanted)
        why = (
            f"{len(wrong)} of {len(texts)} texts become other tokens than the source's; "
            f"{text[:40]!r} from token {at}: {list(got[at : at + 4])}, not {list(wanted[at : at + 4])}"
        )
        return Check("tokenizer", len(wrong), 0, passed=False, why=why)
    lost = [
        (text, back)
        for text, back, like in zip(TEXTS, found.texts, source.texts, strict=True)
        if back not in (text, like, f" {text}")  # sentencepiece puts a space before each text
    ]
    if lost:
        text, back = lost[0]
        at = _parting(text, back)
        begin = max(0, at - 10)
        why = (
            f"{len(lost)} texts do not come back from their tokens; "
            f"{text[begin : at + 30]!r} comes back as {back[begin : at + 30]!r}"
        )
        return Check("tokenizer", len(lost), 0, passed=False, why=why)
    why = f"{len(texts)} texts become the source's tokens, and text again"
    return Check("tokenizer", 0, 0, passed=True, why=why)


def _parting(one: Sequence[object], other: Sequence[object]) -> int:
    """The first place where two differ."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def _markup(found: Traits, source: Traits) -> Check:
    wrong = [text for text, ids in source.markup.items() if found.markup.get(text) != ids]
    if not wrong:
        return Check("markup", 0, 0, passed=True, why=f"{len(source.markup)} special tokens are read as such")
    got, wanted = found.markup.get(wrong[0], ()), source.markup[wrong[0]]
    why = f"{wrong[0]!r} is read as {list(got[:6])}, not {list(wanted)}"
    return Check("markup", len(wrong), 0, passed=False, why=why)


def _template(found: Traits, source: Traits) -> tuple[Check, ...]:
    if source.chats is None:
        why = (
            "the source has none"
            if found.chats is None
            else "the source has none; the artifact brings its own"
        )
        return (Check("chat_template", found.chats is not None, None, passed=True, why=why),)
    if found.chats is None:
        why = "the source has one, and this artifact has lost it"
        return (Check("chat_template", "missing", "as the source's", passed=False, why=why),)
    for chat, got, wanted in zip(CHATS, found.chats, source.chats, strict=True):
        both_refuse = got.startswith(REFUSED) and wanted.startswith(REFUSED)
        if got != wanted and not both_refuse:
            at = _parting(got, wanted)
            begin = max(0, at - 10)
            why = (
                f"a chat of {len(chat)} messages is laid out otherwise, from character {at}: "
                f"{got[begin : at + 30]!r}, not {wanted[begin : at + 30]!r}"
            )
            return (Check("chat_template", "differs", "as the source's", passed=False, why=why),)
    if all(chat.startswith(REFUSED) for chat in found.chats):
        why = f"no chat can be laid out: {found.chats[0].removeprefix(REFUSED)}"
        return (Check("chat_template", "refused", "as the source's", passed=False, why=why),)
    laid_out = Check(
        "chat_template",
        "equal",
        "as the source's",
        passed=True,
        why=f"{len(CHATS)} chats are laid out as the source's",
    )
    return (laid_out, _chat_tokens(found, source))


def _chat_tokens(found: Traits, source: Traits) -> Check:
    """llama.cpp's sentencepiece puts a space after each special token; that alone is no fault of a file."""
    if found.chat_ids == source.chat_ids:
        return Check(
            "chat_tokens", "equal", "as the source's", passed=True, why="chats become the source's tokens"
        )
    for got, wanted in zip(found.chat_ids, source.chat_ids, strict=True):
        bare = [found.pieces[token].strip() for token in got]
        if [text for text in bare if text] != [t for token in wanted if (t := source.pieces[token].strip())]:
            why = "a chat, laid out alike, becomes other tokens than the source's"
            return Check("chat_tokens", "differ", "as the source's", passed=False, why=why)
    why = "chats become the source's tokens but for spaces beside special tokens, which this runtime adds"
    return Check("chat_tokens", "equal but for spaces", "as the source's", passed=True, why=why)


def _ends(found: Traits, source: Traits) -> Check:
    lost = [token for token in source.ends if token not in found.ends]
    names = ", ".join(f"{text} ({token})" for token, text in sorted(source.ends.items()))
    if lost:
        why = f"{source.ends[lost[0]]} ({lost[0]}) ends an answer of the source, and not of this artifact"
        return Check("end_of_turn", len(lost), 0, passed=False, why=why)
    return Check("end_of_turn", 0, 0, passed=True, why=f"these end its answers too: {names or 'none'}")


def _laid_out(worker: Worker, chat: Sequence[Mapping[str, str]]) -> str:
    """The chat as text, or why not: a template may refuse a role."""
    try:
        return worker.apply_template(chat)
    except ChildFailure as failure:
        if failure.fault.kind is not FaultKind.REFUSED:
            raise
        return REFUSED + failure.message
