"""What is written to vouch for an artifact: by the letter of the specifications, and the same every time."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from convert.publish.provenance.envelope import signed_by
from convert.publish.provenance.statement import BOM_NAME, PROVENANCE_NAME, RELEASE_NAME, attest, release_of
from tests.provenance.publication import COMMIT, lay_out, make_bundle, make_candidates, make_keys

if TYPE_CHECKING:
    from pathlib import Path


def payload(data: bytes) -> Any:
    """What an envelope holds."""
    return json.loads(base64.b64decode(json.loads(data)["payload"]))


def test_a_statement_names_every_file_and_the_manifest(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    for candidate in make_candidates(tmp_path / "artifacts"):
        made = attest(candidate, keys.signer)
        statement = payload(made[PROVENANCE_NAME])
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
        subjects = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
        expected = {f"{candidate.prefix}{each.path}": each.sha256 for each in candidate.manifest.files}
        manifest = (candidate.folder / "manifest.json").read_bytes()
        expected[f"{candidate.documents}manifest.json"] = hashlib.sha256(manifest).hexdigest()
        expected[f"{candidate.documents}{BOM_NAME}"] = hashlib.sha256(made[BOM_NAME]).hexdigest()
        assert subjects == expected


def test_the_predicate_says_what_a_rebuild_needs(tmp_path: Path) -> None:
    candidate = make_candidates(tmp_path / "artifacts")[0]
    statement = json.loads(attest(candidate, None)[PROVENANCE_NAME])
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "recipe": candidate.manifest.recipe,
        "target": candidate.target,
        "options": candidate.manifest.options,
    }
    dependencies = {each["name"]: each for each in definition["resolvedDependencies"]}
    assert dependencies["model.safetensors"] == {
        "name": "model.safetensors",
        "uri": f"pkg:huggingface/Owner/Tiny@{COMMIT}#model.safetensors",
        "digest": {"sha256": "2" * 64},
    }
    assert dependencies["torch"] == {"name": "torch", "uri": "pkg:pypi/torch@2.13.0%2Bcpu"}
    assert statement["predicate"]["runDetails"]["builder"]["version"] == {"modelwright": "0.1.0"}


@pytest.mark.parametrize("is_ed25519", [False, True])
def test_others_can_check_the_signature(tmp_path: Path, *, is_ed25519: bool) -> None:
    keys = make_keys(tmp_path, is_ed25519=is_ed25519)
    data = attest(make_candidates(tmp_path / "artifacts")[0], keys.signer)[PROVENANCE_NAME]
    public = load_pem_public_key(keys.public.read_bytes())
    envelope = Envelope.from_dict(json.loads(data))
    key = SSlibKey.from_crypto(public, keyid=keys.signer.key_id)
    assert set(envelope.verify([key], 1)) == {keys.signer.key_id}
    # And by hand, as the DSSE protocol has it.
    content = json.loads(data)
    body, kind = base64.b64decode(content["payload"]), content["payloadType"].encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)
    how = () if is_ed25519 else (ECDSA(SHA256()),)
    public.verify(base64.b64decode(content["signatures"][0]["sig"]), signed, *how)  # type: ignore[union-attr]


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_a_key_has_the_name_that_openssl_gives_it(tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    kind = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(["openssl", "genpkey", *kind, "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", public, "-outform", "DER"], check=True, capture_output=True
    ).stdout
    from convert.publish.provenance.key import read_public, read_signer  # noqa: PLC0415

    assert read_signer(private).key_id == read_public(public).key_id == hashlib.sha256(der).hexdigest()


def test_the_same_artifact_says_the_same_wherever_it_lies(tmp_path: Path) -> None:
    signer = make_keys(tmp_path).signer
    first, second = (make_bundle(tmp_path / name, signer) for name in ("one", "another"))
    assert [file.key for file in first.files] == [file.key for file in second.files]
    for file in first.files:
        assert str(tmp_path).encode() not in file.read()


def test_the_key_is_in_nothing_that_goes_out(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, is_ed25519=True)
    signer = keys.signer
    pem = keys.private.read_text()
    secret = base64.b64decode("".join(pem.splitlines()[1:-1]))[-32:]
    shown = [repr(signer), str(signer), *(repr(each) for each in vars(signer))]
    written = [file.read() for file in make_bundle(tmp_path / "artifacts", signer).files]
    for form in (secret, secret.hex().encode(), base64.b64encode(secret), pem.splitlines()[1].encode()):
        assert not any(form in data for data in written)
        assert not any(form.decode("latin-1") in text for text in shown)


def test_without_a_key_the_statement_stands_by_itself(tmp_path: Path) -> None:
    made = attest(make_candidates(tmp_path / "artifacts")[0], None)
    assert json.loads(made[PROVENANCE_NAME])["_type"] == "https://in-toto.io/Statement/v1"
    assert signed_by(made[PROVENANCE_NAME]) is None


def test_a_release_names_all_else(tmp_path: Path) -> None:
    signer = make_keys(tmp_path).signer
    bundle = make_bundle(tmp_path / "artifacts", signer)
    files = {file.path: file for file in bundle.files}
    data = files.pop(RELEASE_NAME).read()
    assert signed_by(data) == signer.key_id
    statement = payload(json.dumps(json.loads(data)["dsseEnvelope"]).encode())
    listed = {each["name"]: each["digest"] for each in statement["predicate"]["resources"]}
    assert listed == {path: file.sha256 for path, file in files.items()}
    (subject,) = statement["subject"]
    assert subject["name"] == "somebody/Tiny-GGUF"
    (other,) = release_of(bundle.repo, {**listed, "README.md": "0" * 64})["subject"]
    assert other["digest"] != subject["digest"]


@pytest.mark.apart
@pytest.mark.parametrize("is_partial", [False, True])
def test_model_signing_checks_a_release(tmp_path: Path, *, is_partial: bool) -> None:
    """OpenSSF's own tool."""
    verifying = pytest.importorskip("model_signing.verifying")
    keys = make_keys(tmp_path)
    folder = lay_out(make_bundle(tmp_path / "artifacts", keys.signer), tmp_path / "repo")
    (folder / ".gitattributes").write_text("*.gguf filter=lfs\n")

    def verify() -> None:
        config = verifying.Config().use_elliptic_key_verifier(public_key=keys.public)
        config.verify(folder, folder / RELEASE_NAME)

    verify()
    model = folder / "Tiny-Q8_0.gguf"
    if is_partial:
        model.unlink()
    else:
        model.write_bytes(b"another")
    with pytest.raises(ValueError, match="Tiny-Q8_0"):
        verify()
