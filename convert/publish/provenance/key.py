"""Keys in PEM files: the private one signs and is never shown, the public one checks."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from convert.recipe import expand_home
from convert.store.fault import explained

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import (
        ECDSA,
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    Private = EllipticCurvePrivateKey | Ed25519PrivateKey
    Public = EllipticCurvePublicKey | Ed25519PublicKey

# The environment names the private key's file, and no recipe does: recipes are published.
KEY_VARIABLE = "MODELWRIGHT_SIGNING_KEY"
PASSPHRASE_VARIABLE = "MODELWRIGHT_SIGNING_PASSPHRASE"  # noqa: S105 - the name of a variable

_LARGEST_BYTES = 64 << 10
_MAKE = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem"
_KINDS = "neither a key of the curves P-256, P-384 and P-521 nor an Ed25519 key"
_PUBLIC = "openssl pkey -in key.pem -pubout -out public.pem"


@dataclass(frozen=True)
class Signer:
    """A private key, ready to sign; only its id is ever printed."""

    key_id: str
    _key: Private = field(repr=False)

    @property
    def hint(self) -> str:
        """Return the public half's name in Sigstore's bundles."""
        return _hint_of(self._key.public_key())

    def sign(self, payload: bytes, payload_type: str) -> bytes:
        """Make the signature of a DSSE envelope: the same for the same payload."""
        return self._key.sign(_encoded(payload, payload_type), *_algorithm(self._key))


@dataclass(frozen=True)
class PublicKey:
    """A public key, ready to check a signature."""

    key_id: str
    _key: Public = field(repr=False)

    @property
    def hint(self) -> str:
        """Return its name in Sigstore's bundles."""
        return _hint_of(self._key)

    def has_signed(self, payload: bytes, payload_type: str, signature: bytes) -> bool:
        """Say whether the private half made this signature of this payload."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only to check

        try:
            self._key.verify(signature, _encoded(payload, payload_type), *_algorithm(self._key))
        except InvalidSignature:
            return False
        return True


def signer_from_environment(environment: Mapping[str, str] | None = None) -> Signer | None:
    """Read the key that the environment names, if it names one."""
    given = os.environ if environment is None else environment
    path = given.get(KEY_VARIABLE, "")
    return read_signer(expand_home(path), given.get(PASSPHRASE_VARIABLE)) if path else None


def read_signer(path: Path, passphrase: str | None = None) -> Signer:
    """Read a private key from its PEM file, which only its owner may be able to read."""
    data = _read(path, is_private=True)
    if b"PUBLIC KEY-----" in data:
        raise Failure(
            f"{path}: a public key, and signing takes the private one", f"name the file that `{_MAKE}` wrote"
        )
    private = _private(path, data, passphrase)
    public: Any = private.public_key()
    if not _is_known(public):
        raise Failure(f"{path}: {_KINDS}", f"make one with `{_MAKE}`")
    return Signer(_id_of(public), private)


def read_public(path: Path) -> PublicKey:
    """Read a public key from its PEM file."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    data = _read(path, is_private=False)
    if b"PRIVATE KEY-----" in data:
        raise Failure(
            f"{path}: a private key, and checking takes the public one", f"make it with `{_PUBLIC}`"
        )
    try:
        public: Any = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise Failure(f"{path}: not a public key in PEM form", f"`{_PUBLIC}` writes one") from None
    if not _is_known(public):
        raise Failure(f"{path}: {_KINDS}", "ask the publisher for the key that signed")
    return PublicKey(_id_of(public), public)


def _private(path: Path, data: bytes, passphrase: str | None) -> Any:
    """Decode the key of a PEM file; no message quotes what is in it."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    is_locked = b"ENCRYPTED" in data
    if is_locked and not passphrase:
        raise Failure(f"{path}: locked with a passphrase", f"set {PASSPHRASE_VARIABLE}")
    try:
        return load_pem_private_key(data, passphrase.encode() if is_locked and passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if is_locked:
            raise Failure(
                f"{path}: the passphrase does not open it", f"check {PASSPHRASE_VARIABLE}"
            ) from None
        raise Failure(f"{path}: not a private key in PEM form", f"make one with `{_MAKE}`") from None


def _encoded(payload: bytes, payload_type: str) -> bytes:
    """Encode what a DSSE envelope signs: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _is_known(public: object) -> bool:
    """Say whether it is of a kind that signs here: those of OpenSSF's Model Signing, and Ed25519."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    if isinstance(public, EllipticCurvePublicKey):
        return public.curve.name in ("secp256r1", "secp384r1", "secp521r1")
    return isinstance(public, Ed25519PublicKey)


def _algorithm(key: Private | Public) -> tuple[ECDSA, ...]:
    """Return what a signature is made with besides the key: a digest as long as the curve, no chance."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512  # noqa: PLC0415

    bits = getattr(key, "key_size", None)  # Ed25519 has one size, and names none
    if bits is None:
        return ()
    digest = {256: SHA256(), 384: SHA384(), 521: SHA512()}[bits]
    return (ECDSA(digest, deterministic_signing=hasattr(key, "sign")),)


def _hint_of(public: Public) -> str:
    """Name a key by the digest of its PEM form, as Model Signing does."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _id_of(public: Public) -> str:
    """Name a key by the digest of its DER form, which openssl and sha256sum give as well."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _read(path: Path, *, is_private: bool) -> bytes:
    with explained(path), path.open("rb") as stream:
        about = os.fstat(stream.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST_BYTES:
            raise Failure(f"{path}: not a key in PEM form", f"make one with `{_MAKE}`")
        if is_private and about.st_mode & 0o077:
            raise Failure(f"{path}: others than its owner may read this private key", f"chmod 600 {path}")
        return stream.read()
