"""Parity with the source, to the letter: tokens, special tokens, chat template, ends, context."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from convert.child import ChildFailure, FaultKind
from verify.gates import Check, equal
from verify.worker import Worker

# In NFC, and none begins with a space: there llama.cpp differs, as manifests say.
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
AS_SOURCE = "as the source's"


@dataclass(frozen=True)
class Profile:
    """An opened model's tokens, template and sizes, as its runtime gives them."""

    context_length: int | None
    vocab_size: int | None
    ends: Mapping[int, str]  # the tokens that end an answer, with their markup
    ids: tuple[tuple[int, ...], ...]  # of each text, and of one with the tokens that are added around it
    texts: tuple[str, ...]  # the ids back as text
    markup: Mapping[str, tuple[int, ...]]  # the ids of each special token's text
    chats: tuple[str, ...] | None  # as the template renders them; None where there is no template
    chat_ids: tuple[tuple[int, ...], ...]
    pieces: Mapping[int, str]  # the text of each id in chat_ids


def read_profile(worker: Worker, markup: Sequence[str] = (), end_ids: Sequence[int] = ()) -> Profile:
    """Ask an open model; `markup` has the source's special tokens, `end_ids` those that end its answers."""
    info = worker.info
    known = (forced_ends(worker, end_ids) or ()) if "force" in info.can else info.eog_ids
    found = {token: worker.detokenize([token]) for token in known}
    ids = [worker.tokenize(text) for text in TEXTS] + [worker.tokenize(TEXTS[0], add_bos=True)]
    chats = tuple(_render(worker, chat) for chat in CHATS) if "template" in info.can else None
    chat_ids = tuple(tuple(worker.tokenize(chat, special=True)) for chat in chats or ())
    return Profile(
        context_length=info.context_length,
        vocab_size=info.vocab_size,
        ends=found,
        ids=tuple(map(tuple, ids)),
        texts=tuple(worker.detokenize(each) for each in ids[: len(TEXTS)]),
        markup={text: tuple(worker.tokenize(text, special=True)) for text in markup or found.values()},
        chats=chats,
        chat_ids=chat_ids,
        pieces={token: worker.detokenize([token]) for token in sorted(set().union(*chat_ids))},
    )


def forced_ends(worker: Worker, end_ids: Sequence[int], plain: int | None = None) -> tuple[int, ...] | None:
    """Return those of the tokens that end a server's answer where a logit bias makes them the next one.

    None where it takes no logit bias, or does nothing with it: `plain` must come three times.
    """
    try:
        if plain is None:
            plain = worker.tokenize("word")[0]
        text = "".join(worker.force(plain)[0].split())
        if not text or text != text[: len(text) // 3] * 3:
            return None
        return tuple(end for end in end_ids if worker.force(end) == ("", "end"))
    except ChildFailure as failure:
        if failure.fault.kind is not FaultKind.REFUSED:
            raise
        return None


def compare(found: Profile, source: Profile) -> tuple[Check, ...]:
    """Make every check that needs no logits."""
    return (
        equal("vocabulary", found.vocab_size, source.vocab_size, "the vocabulary's size"),
        _tokenizer(found, source),
        _markup(found, source),
        *_template(found, source),
        ends(found.ends, source.ends),
        equal("context_length", found.context_length, source.context_length, "the context length"),
    )


def count(name: str, wrong: int, why: str) -> Check:
    """Return a check that passes where nothing is wrong."""
    return Check(name, wrong, 0, passed=not wrong, why=why)


def _tokenizer(found: Profile, source: Profile) -> Check:
    texts = (*TEXTS, f"{TEXTS[0]!r} with the tokens around it")
    rows = zip(texts, found.ids, source.ids, strict=True)
    wrong = [(text, got, wanted) for text, got, wanted in rows if got != wanted]
    marked = [text for text, *_ in wrong if _has_marks(text)]
    if len(wrong) > len(marked):
        text, got, wanted = next(row for row in wrong if row[0] not in marked)
        at = _first_difference(got, wanted)
        why = (
            f"{len(wrong)} of {len(texts)} texts are tokenized differently than by the source; "
            f"{text[:40]!r} from token {at}: {list(got[at : at + 4])}, not {list(wanted[at : at + 4])}"
        )
        return count("tokenizer", len(wrong), why)
    lost = [
        (text, back)
        for text, back, like in zip(TEXTS, found.texts, source.texts, strict=True)
        if back not in (text, like, f" {text}")  # sentencepiece puts a space before each text
    ]
    if lost:
        text, back = lost[0]
        at = _first_difference(text, back)
        part = slice(max(0, at - 10), at + 30)
        why = f"{len(lost)} texts change when tokenized and back; {text[part]!r} becomes {back[part]!r}"
        return count("tokenizer", len(lost), why)
    # llama.cpp splits some families' words there. That is no fault of a file, and nothing is lost.
    but = f" but for {len(marked)} with combining marks" if marked else ""
    return count(
        "tokenizer", 0, f"{len(texts)} texts get the source's tokens{but}, and decode to the same text"
    )


def _has_marks(text: str) -> bool:
    """Return whether letters have combining marks, as those of Hindi do."""
    return any(unicodedata.category(letter).startswith("M") for letter in text)


def _first_difference(one: Sequence[object], other: Sequence[object]) -> int:
    """Return the first place where two sequences differ."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def _markup(found: Profile, source: Profile) -> Check:
    wrong = [text for text, ids in source.markup.items() if found.markup.get(text) != ids]
    if not wrong:
        return count("markup", 0, f"{len(source.markup)} special tokens get the source's ids")
    got, wanted = found.markup.get(wrong[0], ()), source.markup[wrong[0]]
    return count("markup", len(wrong), f"{wrong[0]!r} becomes {list(got[:6])}, not {list(wanted)}")


def _template(found: Profile, source: Profile) -> tuple[Check, ...]:
    def check(measured: str, why: str, *, passed: bool = False) -> Check:
        return Check("chat_template", measured, AS_SOURCE, passed=passed, why=why)

    if source.chats is None:
        own = "" if found.chats is None else "; the artifact has its own"
        why = f"the source has none{own}"
        return (Check("chat_template", found.chats is not None, None, passed=True, why=why),)
    if found.chats is None:
        return (check("missing", "the source has a chat template, and the artifact has none"),)
    for chat, got, wanted in zip(CHATS, found.chats, source.chats, strict=True):
        both_refuse = got.startswith(REFUSED) and wanted.startswith(REFUSED)
        if got != wanted and not both_refuse:
            at = _first_difference(got, wanted)
            part = slice(max(0, at - 10), at + 30)
            why = (
                f"a chat of {len(chat)} messages is rendered differently from character {at}: "
                f"{got[part]!r}, not {wanted[part]!r}"
            )
            return (check("differs", why),)
    if all(chat.startswith(REFUSED) for chat in found.chats):
        return (check("refused", f"no chat can be rendered: {found.chats[0].removeprefix(REFUSED)}"),)
    same = check("equal", f"{len(CHATS)} chats are rendered as by the source", passed=True)
    return (same, _chat_tokens(found, source))


def _chat_tokens(found: Profile, source: Profile) -> Check:
    if found.chat_ids == source.chat_ids:
        why = "rendered chats get the source's tokens"
        return Check("chat_tokens", "equal", AS_SOURCE, passed=True, why=why)
    # llama.cpp's sentencepiece puts a space after each special token; that alone is no fault of a file.
    if _words(found) == _words(source):
        why = "rendered chats get the source's tokens but for spaces that this runtime adds at special tokens"
        return Check("chat_tokens", "equal but for spaces", AS_SOURCE, passed=True, why=why)
    why = "a chat that is rendered alike gets other tokens than the source's"
    return Check("chat_tokens", "differ", AS_SOURCE, passed=False, why=why)


def _words(profile: Profile) -> list[list[str]]:
    """Return the text of each chat's tokens without spaces around it, and no token that is only spaces."""
    return [[text for token in ids if (text := profile.pieces[token].strip())] for ids in profile.chat_ids]


def ends(found: Mapping[int, str], source: Mapping[int, str]) -> Check:
    """Check that every token that ends an answer of the source ends those of the artifact."""
    lost = [token for token in source if token not in found]
    if lost:
        why = f"{source[lost[0]]} ({lost[0]}) ends an answer of the source, but not of this artifact"
        return count("end_of_turn", len(lost), why)
    names = ", ".join(f"{text} ({token})" for token, text in sorted(source.items()))
    return count("end_of_turn", 0, f"the source's end tokens end its answers, too: {names or 'none'}")


def _render(worker: Worker, chat: Sequence[Mapping[str, str]]) -> str:
    """Return the chat as text, or why not: a template may refuse a role."""
    try:
        return worker.apply_template(chat)
    except ChildFailure as failure:
        if failure.fault.kind is not FaultKind.REFUSED:
            raise
        return REFUSED + failure.message
