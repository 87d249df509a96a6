"""Keys: the owner's alone, of the right kind, and never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from convert.errors import Failure
from convert.publish.provenance.key import (
    KEY_VARIABLE,
    PASSPHRASE_VARIABLE,
    read_public,
    read_signer,
    signer_from_environment,
)
from tests.provenance.publication import make_keys

if TYPE_CHECKING:
    from pathlib import Path


def test_no_variable_no_signer() -> None:
    assert signer_from_environment({}) is None
    assert signer_from_environment({KEY_VARIABLE: ""}) is None


def test_the_environment_names_the_key(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    signer = signer_from_environment({KEY_VARIABLE: str(keys.private)})
    assert signer
    assert signer.key_id == read_public(keys.public).key_id


def test_a_locked_key_wants_its_passphrase(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, passphrase=b"open sesame")
    given = {KEY_VARIABLE: str(keys.private)}
    assert signer_from_environment({**given, PASSPHRASE_VARIABLE: "open sesame"})
    for passphrase in ("", "wrong word"):
        with pytest.raises(Failure, match="passphrase") as caught:
            signer_from_environment({**given, PASSPHRASE_VARIABLE: passphrase})
        assert PASSPHRASE_VARIABLE in caught.value.hint
        assert "wrong word" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    keys = make_keys(tmp_path)
    keys.private.chmod(mode)
    with pytest.raises(Failure, match="others") as caught:
        read_signer(keys.private)
    assert caught.value.hint == f"chmod 600 {keys.private}"


def test_the_wrong_half_is_named(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    keys.public.chmod(0o600)
    with pytest.raises(Failure, match="a public key"):
        read_signer(keys.public)
    with pytest.raises(Failure, match="a private key"):
        read_public(keys.private)


def test_other_kinds_of_keys_are_refused(tmp_path: Path) -> None:
    key = generate_private_key(SECP256K1())
    private, public = tmp_path / "ec.pem", tmp_path / "ec.pub"
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(Failure, match="P-256, P-384"):
        read_signer(private)
    with pytest.raises(Failure, match="P-256, P-384"):
        read_public(public)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", bytes(70_000)]
)
def test_what_is_no_key_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key.pem"
    path.touch(mode=0o600)
    path.write_bytes(data)
    for read in (read_signer, read_public):
        with pytest.raises(Failure) as caught:
            read(path)
        assert caught.value.hint
        assert "AAAA" not in caught.value.message


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    for read in (read_signer, read_public):
        with pytest.raises(Failure, match="no such file"):
            read(tmp_path / "nowhere.pem")
