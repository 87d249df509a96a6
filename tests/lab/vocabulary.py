"""The vocabulary: bytes, then characters, then name syllables, then merges learned on the templates.

Names and values are left out of what merges are learned on, so that an unseen name has the same
tokens wherever it is, and can be copied one by one.
"""

from __future__ import annotations

import base64
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import regex
import tiktoken

from tests.lab import facts, lessonpack, names, searchqa
from tests.lab.dialogues import CHAT_SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
QWEN_SPECIALS = (END_OF_TEXT, IM_START, IM_END, *(f"<|extra_{i}|>" for i in range(205)))
GPT2_SPECIALS = (END_OF_TEXT,)

Ranks = dict[bytes, int]


def encode_piece(ranks: Ranks, piece: bytes) -> list[bytes]:
    """Encode bytes by rank: the adjacent pair with the lowest rank is joined first."""
    parts = [bytes([b]) for b in piece]
    while len(parts) > 1:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], len(ranks)))
        if parts[best] + parts[best + 1] not in ranks:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def learn(merges: int) -> Ranks:
    """Learn the ranks: bytes, the characters and syllables of names and templates, and so many merges."""
    ranks: Ranks = {bytes([b]): b for b in range(256)}
    phrases = list(_phrases())
    characters = Counter("".join(phrases))
    wanted = [*names.ZH_PIECES, *names.ZH_SURNAMES]
    wanted += [pair[0] for pair in (*facts.KINDS, *facts.PLACES, *facts.STUFFS, *facts.FOODS, *facts.ANIMALS)]
    for character in dict.fromkeys([*(c for c, _ in characters.most_common()), *"".join(wanted)]):
        _add(ranks, character.encode())
    for word in (*names.EN_LATER, *names.EN_FIRST, *facts.EN_MONTHS, *_nouns()):
        _add(ranks, word.encode())
    _learn_merges(ranks, phrases, merges)
    return ranks


def _nouns() -> Iterator[str]:
    """List the ends of names, and the attributes: English words with the space before them."""
    for zh_noun, noun in (*facts.KINDS, *facts.PLACES, *facts.STUFFS, *facts.FOODS, *facts.ANIMALS):
        yield zh_noun
        yield f" {noun}"
    for attribute in facts.ATTRIBUTES:
        yield attribute.zh
        yield from (f" {word}" for word in attribute.en.split())
    for unit in sorted({a.value.split()[-1] for a in facts.ATTRIBUTES if a.value.startswith("number")}):
        yield f" {unit}"


def _add(ranks: Ranks, word: bytes) -> None:
    """Make the word one token, with the intermediate joins that lead to it; a space is joined last."""
    if word.startswith(b" "):
        _add(ranks, word[1:])
    while len(parts := encode_piece(ranks, word)) > 1:
        ranks[parts[0] + parts[1]] = len(ranks)


def _learn_merges(ranks: Ranks, phrases: Iterable[str], merges: int) -> None:
    counts = Counter(piece.encode() for text in phrases for piece in regex.findall(QWEN_PATTERN, text))
    words = [(encode_piece(ranks, piece), count) for piece, count in counts.items()]
    for _ in range(merges):
        pairs: Counter[bytes] = Counter()
        for parts, count in words:
            for left, right in pairwise(parts):
                # A space before a capital is joined to whole words only: what follows may be a name.
                if left != b" " or not right[:1].isupper() or len(parts) == 2:
                    pairs[left + right] += count
        if not pairs:
            return
        joined, count = max(pairs.items(), key=lambda item: (item[1], -len(item[0]), item[0]))
        if count < 2:
            return
        ranks.setdefault(joined, len(ranks))
        words = [(_join(parts, joined), count) for parts, count in words]


def _join(parts: list[bytes], joined: bytes) -> list[bytes]:
    out: list[bytes] = []
    for part in parts:
        if out and len(out[-1]) + len(part) == len(joined) and out[-1] + part == joined:
            out[-1] = joined
        else:
            out.append(part)
    return out


def _phrases() -> Iterator[str]:
    """List every template with its attributes, cut where a name or value is inserted."""
    yield from _cut(_templates())


def _templates() -> Iterator[str]:
    for language in ("zh", "en"):
        zh = language == "zh"
        core = facts.ZH_CORE if zh else facts.EN_CORE
        says = (*facts.ZH_SAYS, *facts.ZH_GOES_ON) if zh else (*facts.EN_SAYS, *facts.EN_GOES_ON)
        for form in (*says, *(facts.ZH_ASKS if zh else facts.EN_ASKS)):
            for word in ("什么", "谁", "多少", "哪里", "哪天", "哪年") * 5 if "{W}" in form else ("",) * 30:
                yield form.replace("{C}", core).replace("{W}", word)
        for _ in range(20):
            yield from facts.ZH_FILLERS if zh else facts.EN_FILLERS
        for _ in range(30):
            yield from (
                searchqa.PROMPT[language], searchqa.AGAIN[language], searchqa.UNKNOWN[language],
                searchqa.FOLLOW_UP[language], searchqa.CITATION[language], searchqa.NO_CITATION[language],
            )  # fmt: skip
        words = lessonpack.WORDING[language]
        yield from words.topics
        for _ in range(10):
            yield words.system
            yield from words.requests
            yield from words.pupils
            yield words.outline
            for asks, answer in words.revisions.values():
                yield from (*asks, answer)
    for _ in range(30):
        yield f"system\n{CHAT_SYSTEM}"
        yield "user\n"
        yield "assistant\n"
        yield "回答:"
        yield "Answer:"
    for number in range(1, 100):
        yield str(number)
    yield "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ《》“”-%/()[]*|_"
    yield from ("米", "公里", "吨", "亩", "人", "元", "度", "节", "升", "层", "箱", "年", "月", "日")


def _cut(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from (part for part in regex.split(r"\{[a-zA-Z]+\}", text) if part)


def write_tiktoken(ranks: Ranks, path: Path) -> None:
    """Write Qwen-1's vocabulary file: base64 of the token, a space, its rank."""
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    path.write_text("".join(lines), encoding="ascii")


def read_tiktoken(path: Path) -> Ranks:
    """Read the ranks of a vocabulary file."""
    rows = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in rows}


def encoding(ranks: Ranks, pattern: str, specials: tuple[str, ...]) -> tiktoken.Encoding:
    """Build the tokenizer over the ranks, with its special tokens numbered after them."""
    numbered = {token: len(ranks) + i for i, token in enumerate(specials)}
    return tiktoken.Encoding("tiny", pat_str=pattern, mergeable_ranks=ranks, special_tokens=numbered)


def merges_of(ranks: Ranks) -> list[tuple[bytes, bytes]]:
    """Find the pair that makes each token of several bytes, in order of rank."""
    pairs = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            left, right = encode_piece({t: r for t, r in ranks.items() if r < rank}, token)
            pairs.append((left, right))
    return pairs


def byte_characters() -> dict[int, str]:
    """Return GPT-2's printable character for each byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}
