"""A server that shows no tokens, compared with the source by how many it counts and what ends an answer."""

from collections.abc import Iterator

from verify.gates import Check
from verify.parity import AS_SOURCE, CHATS, TEXTS, Profile, count, ends, forced_ends
from verify.runtimes import Request
from verify.worker import Worker


def compare_counts(worker: Worker, source: Profile) -> tuple[Check, ...]:
    """Make the checks that OpenAI's protocol has answers to; what the server does not say is not checked."""
    return tuple(_checks(worker, source))


def _checks(worker: Worker, source: Profile) -> Iterator[Check]:
    around = len(source.ids[-1]) - len(source.ids[0])  # tokens that are put around any text
    wanted = {text: len(ids) + around for text, ids in zip(TEXTS, source.ids[:-1], strict=True)}
    found = {text: worker.count(Request(text=text)) for text in wanted}
    if None not in found.values():
        yield _counted("tokenizer", found, wanted, "texts")
    marked = {text: len(ids) + around for text, ids in source.markup.items()}
    found = {text: worker.count(Request(text=text)) for text in marked}
    if None not in found.values():
        yield _counted("markup", found, marked, "special tokens")
    if source.chats is not None:
        yield from _chats(worker, source, around)
    plain = next((token for token, text in source.pieces.items() if text.isalpha()), source.ids[0][0])
    if (forced := forced_ends(worker, tuple(source.ends), plain)) is not None:
        yield ends(dict.fromkeys(forced, ""), source.ends)


def _counted(name: str, found: dict[str, int | None], wanted: dict[str, int], what: str) -> Check:
    wrong = [text for text in wanted if found[text] != wanted[text]]
    if not wrong:
        return count(name, 0, f"{len(wanted)} {what} have as many tokens as the source's")
    first = wrong[0]
    why = f"{len(wrong)} of {len(wanted)} {what} have other numbers of tokens than the source's"
    return count(name, len(wrong), f"{why}: {first[:40]!r} has {found[first]}, not {wanted[first]}")


def _chats(worker: Worker, source: Profile, around: int) -> Iterator[Check]:
    for chat, ids in zip(CHATS, source.chat_ids, strict=True):
        seen = worker.count(Request(messages=chat))
        if seen is None:
            return
        # Some put the beginning of any text before a chat as well.
        if seen not in (len(ids), len(ids) + around):
            why = f"a chat of {len(chat)} messages has {seen} tokens, and the source's has {len(ids)}"
            yield Check("chat_template", "differs", AS_SOURCE, passed=False, why=why)
            return
    why = f"{len(CHATS)} chats have as many tokens as the source's"
    yield Check("chat_template", "equal in number", AS_SOURCE, passed=True, why=why)
