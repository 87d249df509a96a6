"""Checks of a vocabulary before anything is built on it."""

from convert.errors import Failure
from convert.tokenizer.document import Document
from convert.tokenizer.file import BROKEN


def check_document(document: Document) -> None:
    """Check that ids are unique, tokens are text, and every merge joins two tokens into a third."""
    where = f"{document.origin}: " + ("model.vocab" if document.origin == "tokenizer.json" else "vocabulary")
    if not document.vocab:
        raise Failure(f"{where} is empty", BROKEN)
    owner: dict[int, str] = {}
    for token, identity in document.vocab.items():
        if not isinstance(identity, int) or isinstance(identity, bool) or identity < 0:
            raise Failure(f"{where}: {token!r} has the id {identity!r}", BROKEN)
        other = owner.setdefault(identity, token)
        if other != token and not (_is_byte_of(token, other) or _is_byte_of(other, token)):
            raise Failure(f"{where}: {other!r} and {token!r} share the id {identity}", BROKEN)
    _check_text(document, where)
    _check_added(document, owner)
    vocab = document.vocab
    for index, (left, right) in enumerate(document.merges):
        if left not in vocab or right not in vocab or left + right not in vocab:
            token = next(each for each in (left, right, left + right) if each not in vocab)
            raise Failure(
                f"{document.origin}: model.merges[{index}]: {token!r} is not in the vocabulary", BROKEN
            )


def _is_byte_of(byte: str, character: str) -> bool:
    """Return whether this is the token of a byte; some files give it and its character one id."""
    return len(character) == 1 and byte == f"<0x{ord(character):02X}>"


def _check_text(document: Document, where: str) -> None:
    texts = [*document.vocab, *(token.content for token in document.added)]
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError:
        culprit = next(text for text in texts if any("\ud800" <= letter <= "\udfff" for letter in text))
        raise Failure(f"{where}: {culprit!r} is half a character, which UTF-8 cannot hold", BROKEN) from None


def _check_added(document: Document, owner: dict[int, str]) -> None:
    contents: dict[str, int] = {}
    for added in document.added:
        if not added.content:
            raise Failure(f"{document.origin}: the added token {added.id} is empty", BROKEN)
        earlier = contents.setdefault(added.content, added.id)
        if earlier != added.id or document.vocab.get(added.content, added.id) != added.id:
            raise Failure(f"{document.origin}: the added token {added.content!r} has two ids", BROKEN)
        other = owner.setdefault(added.id, added.content)
        if other != added.content:
            raise Failure(
                f"{document.origin}: {other!r} and the added token {added.content!r} share the id {added.id}",
                BROKEN,
            )
