"""A small repo, published into a folder: two quants side by side and a model in a folder of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from convert.deviation import Deviation
from convert.publish import repo
from convert.publish.bundle import README, Bundle, Candidate, Waiver
from convert.publish.provenance.key import Signer, read_signer
from convert.publish.provenance.statement import attest, release
from convert.store import FileEntry, Manifest, SourceRecord, Store, artifact_key
from tests.verify import reports

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TARGETS = ("gguf-Q8_0", "gguf-Q4_K_M", "onnx-cpu-int4")
NOTICE = b"the original's notice\n"


@dataclass(frozen=True)
class Keys:
    """A pair of files."""

    private: Path
    public: Path

    @property
    def signer(self) -> Signer:
        return read_signer(self.private)


def make_keys(
    folder: Path, seed: int = 0, passphrase: bytes | None = None, *, is_ed25519: bool = False
) -> Keys:
    """A pair that is the same for the same seed: of P-256, or Ed25519."""
    secret = hashlib.sha256(b"%d" % seed).digest()
    key = (
        Ed25519PrivateKey.from_private_bytes(secret)
        if is_ed25519
        else derive_private_key(int.from_bytes(secret), SECP256R1())
    )
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    keys = Keys(folder / f"key{seed}.pem", folder / f"public{seed}.pem")
    keys.private.touch(mode=0o600)
    keys.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
    keys.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return keys


def manifest_of(
    target: str, licence: str | None = "apache-2.0", source: str | None = "Owner/Tiny"
) -> Manifest:
    """What such an artifact was made from."""
    return Manifest(
        key=artifact_key(source_digests={"a": "b"}, target=target, options={}, format_revision=1, tools={}),
        recipe="model: Owner/Tiny  # 中文\ntargets:\n  gguf: {quants: [Q8_0, Q4_K_M]}\n",
        source=SourceRecord(
            repo=source,
            commit=COMMIT if source else None,
            files=(
                FileEntry(path="config.json", size_bytes=3, sha256="1" * 64),
                FileEntry(path="model.safetensors", size_bytes=5, sha256="2" * 64),
            ),
        ),
        target=target,
        format=target.partition("-")[0],
        options=(
            {"provider": "cpu", "precision": "int4"}
            if target.startswith("onnx")
            else {"quant": target.rpartition("-")[2], "split_max_bytes": None}
        ),
        tools={"modelwright": "0.1.0", "numpy": "2.2.6", "torch": "2.13.0+cpu"},
        tensors={"token_embd.weight": "Q8_0"},
        deviations=(Deviation(subject="blk.0", wanted="Q4_K", got="Q5_0", why="rows of 96"),),
        license=licence,
        chat_template_sha256=None,
    )


def make_candidate(root: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Candidate:
    """An artifact that stands, and passed but for a gate that is waived."""
    with Store(root).stage("tiny", manifest.target, manifest.key) as staging:
        for name, content in files.items():
            path = staging.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        whole = staging.commit(manifest)
    folder = root / "tiny" / manifest.target
    return Candidate(
        target=manifest.target,
        folder=folder,
        manifest=whole,
        manifest_sha256=hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest(),
        result=reports.artifact(manifest.target),
        waived=(Waiver("top1", "for tests only"),),
    )


def make_candidates(root: Path) -> tuple[Candidate, ...]:
    """All three, each at its place in the repo."""
    made = []
    for number, target in enumerate(TARGETS):
        model = bytes([number]) * 5000
        files = (
            {"genai_config.json": b"{}", "model.onnx": b"graph", "model.onnx.data": model, "NOTICE": NOTICE}
            if target.startswith("onnx")
            else {f"Tiny-{target.removeprefix('gguf-')}.gguf": model, "NOTICE": NOTICE}
        )
        made.append(make_candidate(root, manifest_of(target), files))
    return repo.placed(made)


def make_bundle(root: Path, signer: Signer | None) -> Bundle:
    """The repo with everything in it."""
    candidates = make_candidates(root)
    bundle = Bundle(
        repo="somebody/Tiny-GGUF",
        title="Tiny",
        suffix="GGUF",
        candidates=candidates,
        report=reports.report(*(candidate.result for candidate in candidates)),
        files=repo.files(candidates),
    )
    for candidate in candidates:
        told = {"report.json": b"{}\n"}
        made = {**told, **attest(candidate, signer, told)}
        bundle = bundle.with_made({f"{candidate.documents}{name}": data for name, data in made.items()})
    bundle = bundle.with_made({README: b"# Tiny\n", "images/plot.png": b"\x89PNG"})
    return bundle.with_made(release(bundle, signer))


def lay_out(bundle: Bundle, folder: Path) -> Path:
    """Download it."""
    for file in bundle.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.read())
    return folder
