"""Statements on disk: in a DSSE envelope where they are signed, by themselves where nobody vouches for them.

The envelope's own rule is at least one signature, so an unsigned one would be refused by every verifier as
malformed; a bare statement is what it says it is.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convert.publish.provenance.key import PublicKey, Signer

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

_ED25519_SIGNATURE_BYTES = 64
_KEY_ID = re.compile(r"[0-9a-f]{64}")


class MalformedError(Exception):
    """It is not what this program writes; the text says where."""


@dataclass(frozen=True)
class Sealed:
    """A statement as it was found, and the signature beside it, if there is one."""

    payload: bytes
    key_id: str | None
    signature: str | None  # hexadecimal

    @property
    def is_signed(self) -> bool:
        return self.signature is not None

    def is_vouched_by(self, key: PublicKey) -> bool:
        """Whether this key signed it, under its own name."""
        if self.signature is None or self.key_id != key.key_id:
            return False
        return key.has_signed(self.payload, PAYLOAD_TYPE, self.signature)

    def statement(self) -> dict[str, Any]:
        """What it says; only of use once the signature was checked."""
        content = _parse(self.payload, "the statement")
        if content.get("_type") != STATEMENT_TYPE:
            raise MalformedError("the statement is not of in-toto's version 1")
        return content


def seal(statement: dict[str, Any], signer: Signer | None) -> bytes:
    """A statement as it is published: the same bytes for the same statement and key."""
    if signer is None:
        return _written(statement)
    text = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    payload = text.encode()
    return _envelope(payload, signer.key_id, signer.sign(payload, PAYLOAD_TYPE))


def unseal(data: bytes) -> Sealed:
    """Read what `seal` wrote, to the byte: there is one way to write an envelope, so none of it is free."""
    content = _parse(data, "it")
    if "payloadType" not in content:
        if content.get("_type") == STATEMENT_TYPE:
            return Sealed(data, None, None)
        raise MalformedError("it is neither a DSSE envelope nor an in-toto statement")
    if content["payloadType"] != PAYLOAD_TYPE:
        raise MalformedError("its payloadType is not in-toto's")
    match content:
        case {
            "payload": str(payload),
            "signatures": [{"keyid": str(key_id), "sig": str(signature)}],
        } if _KEY_ID.fullmatch(key_id):
            sealed = Sealed(_decoded(payload), key_id, _decoded(signature).hex())
        case _:
            raise MalformedError("it is not an envelope with one signature")
    if len(str(sealed.signature)) != 2 * _ED25519_SIGNATURE_BYTES:
        raise MalformedError("its signature is not one of an Ed25519 key")
    if _envelope(sealed.payload, key_id, str(sealed.signature)) != data:
        raise MalformedError("it was written in another form since it was signed")
    return sealed


def signed_by(data: bytes) -> str | None:
    """The id of the key that an envelope names, unchecked; None where nobody signed."""
    try:
        return unseal(data).key_id
    except MalformedError:
        return None


def _envelope(payload: bytes, key_id: str, signature: str) -> bytes:
    return _written(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": key_id, "sig": base64.b64encode(bytes.fromhex(signature)).decode()}],
        }
    )


def _written(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("it holds what is not base64") from None


def _parse(data: bytes, what: str) -> dict[str, Any]:
    """JSON of which every reader reads the same: one object, and no key twice."""
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise MalformedError(f"{what} is not JSON") from None
    if not isinstance(content, dict):
        raise MalformedError(f"{what} is not a JSON object")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise MalformedError("a key stands twice in one JSON object")
    return content


def _refuse(constant: str) -> Any:
    raise MalformedError(f"{constant} is no JSON")
