"""Statements on disk: bare, in a DSSE envelope if they are signed, or in a bundle of Sigstore's."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from convert.publish.provenance.key import PublicKey, Signer

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

# What OpenSSF's Model Signing, and Sigstore's own tools, read a signature from.
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"

_KEY_ID = re.compile(r"[0-9a-f]{64}")


class MalformedError(Exception):
    """Data that this program did not write; the text says why."""


@dataclass(frozen=True)
class Sealed:
    """A statement as it was found, with its signature if it has one."""

    payload: bytes
    key_id: str | None
    signature: bytes | None
    hint: str | None = None  # the key's name in a bundle

    def is_signed_by(self, key: PublicKey) -> bool:
        """Say whether this key signed it, under its own name."""
        if self.signature is None or self.key_id != key.key_id or self.hint not in (None, key.hint):
            return False
        return key.has_signed(self.payload, PAYLOAD_TYPE, self.signature)

    def statement(self) -> dict[str, Any]:
        """Read it; only of use once the signature was checked."""
        content = _parse(self.payload, "the statement", _compact)
        if content.get("_type") != STATEMENT_TYPE:
            raise MalformedError("the statement is not of in-toto's version 1")
        return content


def seal(statement: dict[str, Any], signer: Signer | None) -> bytes:
    """Write a statement as it is published: the same bytes for the same statement and key."""
    if signer is None:  # an envelope without a signature would be malformed to every verifier
        return _written(statement)
    return _written(_signed(statement, signer))


def seal_bundle(statement: dict[str, Any], signer: Signer) -> bytes:
    """Write a signed statement as Sigstore's bundle, with the key's name and no log."""
    return _written(_bundle(_signed(statement, signer), signer.hint))


def unseal(data: bytes) -> Sealed:
    """Read what `seal` wrote, to the byte: there is one way to write an envelope, so none of it is free."""
    content = _parse(data, "it", _written)
    if content.get("mediaType") == BUNDLE_TYPE:
        return _unbundled(content)
    if "payloadType" not in content:
        if content.get("_type") == STATEMENT_TYPE:
            return Sealed(data, None, None)
        raise MalformedError("it is neither a DSSE envelope nor an in-toto statement")
    return _opened(content)


def _unbundled(bundle: dict[str, Any]) -> Sealed:
    match bundle:
        case {
            "dsseEnvelope": {"payloadType": str()} as envelope,
            "verificationMaterial": {"publicKey": {"hint": str(hint)}},
        } if bundle == _bundle(envelope, hint):
            return replace(_opened(envelope), hint=hint)
    raise MalformedError("it is not a bundle of one envelope and the name of one key")


def _opened(content: dict[str, Any]) -> Sealed:
    if content["payloadType"] != PAYLOAD_TYPE:
        raise MalformedError("its payloadType is not in-toto's")
    match content:
        case {
            "payload": str(encoded),
            "signatures": [{"keyid": str(key_id), "sig": str(sig)}],
        } if _KEY_ID.fullmatch(key_id):
            payload, signature = _decoded(encoded), _decoded(sig)
        case _:
            raise MalformedError("it is not an envelope with one signature")
    if _envelope(payload, key_id, signature) != content:
        raise MalformedError("it was written in another form since it was signed")
    return Sealed(payload, key_id, signature)


def signed_by(data: bytes) -> str | None:
    """Return the id of the key that an envelope names, unchecked; None where it is not signed."""
    try:
        return unseal(data).key_id
    except MalformedError:
        return None


def _signed(statement: dict[str, Any], signer: Signer) -> dict[str, Any]:
    payload = _compact(statement)
    return _envelope(payload, signer.key_id, signer.sign(payload, PAYLOAD_TYPE))


def _envelope(payload: bytes, key_id: str, signature: bytes) -> dict[str, Any]:
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
    }


def _bundle(envelope: dict[str, Any], hint: str) -> dict[str, Any]:
    material = {"publicKey": {"hint": hint}, "tlogEntries": []}
    return {"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope}


def _compact(content: Any) -> bytes:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _written(content: Any) -> bytes:
    text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise MalformedError("it holds what is not base64") from None


def _parse(data: bytes, what: str, write: Callable[[Any], bytes]) -> dict[str, Any]:
    """Read JSON in the one form in which it is written: every reader reads the same, and no key twice."""
    try:
        content = json.loads(data.decode())
        is_own = write(content) == data
    except (ValueError, RecursionError):
        raise MalformedError(f"{what} is not JSON") from None
    if not isinstance(content, dict) or not is_own:
        raise MalformedError(f"{what} is JSON in another form than modelwright's: was it changed?")
    return content
