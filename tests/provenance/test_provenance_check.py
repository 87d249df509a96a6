"""What is checked of a download: whatever was touched since it was signed is found, and said in one line."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from convert.cli import app
from convert.errors import Failure
from convert.publish.provenance.check import examine
from convert.publish.provenance.envelope import MalformedError, seal, seal_bundle, unseal
from convert.publish.provenance.statement import PROVENANCE_NAME, RELEASE_NAME, release
from tests.provenance.publication import TARGETS, Keys, lay_out, make_bundle, make_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


Q8 = "gguf-Q8_0"
MODEL = "Tiny-Q8_0.gguf"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Path:
    """A signed repo, to be copied before it is touched."""
    folder = tmp_path_factory.mktemp("signed")
    return lay_out(make_bundle(folder / "artifacts", keys.signer), folder / "repo")


@pytest.fixture
def download(signed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(signed, tmp_path / "download")


def refused(folder: Path, key: Path | None) -> Failure:
    """The one line that it is refused with."""
    with pytest.raises(Failure) as caught:
        examine(folder, key)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change an envelope as somebody without the key can."""
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n")


def test_what_was_signed_is_found_right(download: Path, keys: Keys) -> None:
    vouched = examine(download, keys.public)
    assert vouched.targets == tuple(sorted(TARGETS))
    assert vouched.key_id == keys.signer.key_id
    assert vouched.absent == ()
    assert (
        vouched.files == sum(path.is_file() for path in download.rglob("*")) - 1
    )  # all but the release itself


def test_a_download_of_one_artifact_is_enough(download: Path, keys: Keys) -> None:
    shutil.rmtree(download / "gguf-Q4_K_M")
    shutil.rmtree(download / "cpu-int4")
    (download / "Tiny-Q4_K_M.gguf").unlink()
    vouched = examine(download, keys.public)
    assert vouched.targets == (Q8,)
    assert "Tiny-Q4_K_M.gguf" in vouched.absent
    # Without the release, the card is signed by nobody.
    (download / RELEASE_NAME).unlink()
    assert "nobody signed" in refused(download, keys.public).message
    for name in ("README.md", "images/plot.png"):
        (download / name).unlink()
    (download / "images").rmdir()
    assert examine(download, keys.public).targets == (Q8,)


def test_an_artifact_that_an_earlier_release_had_may_stay(download: Path, tmp_path: Path, keys: Keys) -> None:
    bundle = make_bundle(tmp_path / "artifacts", keys.signer)
    left = tuple(file for file in bundle.files if file.path.startswith((Q8, MODEL, "NOTICE", "README")))
    smaller = replace(bundle, files=left)
    lay_out(smaller.with_made(release(smaller, keys.signer)), download)
    (download / "images" / "plot.png").unlink()
    assert examine(download, keys.public).targets == tuple(sorted(TARGETS))


def test_what_the_hubs_tools_leave_is_told(download: Path, keys: Keys) -> None:
    (download / ".gitattributes").write_text("*.gguf filter=lfs\n")
    (download / ".cache" / "huggingface").mkdir(parents=True)
    (download / ".cache" / "huggingface" / "README.md.metadata").write_text("x")
    assert examine(download, keys.public).by_tools == (".cache", ".gitattributes")
    (download / Q8 / ".gitattributes").write_text("x")
    assert "nobody signed" in refused(download, keys.public).message


def test_the_hubs_cache_of_links_is_read(signed: Path, tmp_path: Path, keys: Keys) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(path for path in signed.rglob("*") if path.is_file())):
        shutil.copyfile(path, blobs / str(number))
        link = snapshot / path.relative_to(signed)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blobs / str(number))
    assert examine(snapshot, keys.public).targets == tuple(sorted(TARGETS))
    (snapshot / "more").symlink_to(blobs)
    assert "more: nobody signed" in refused(snapshot, keys.public).message


def test_any_flipped_byte_of_any_file_is_found(download: Path, keys: Keys) -> None:
    for path in sorted(path for path in download.rglob("*") if path.is_file()):
        data = path.read_bytes()
        for place in {0, len(data) // 2, len(data) - 1} if data else ():
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            refused(download, keys.public)
        path.write_bytes(data)
    examine(download, keys.public)


@pytest.mark.parametrize(
    ("name", "bit"),
    [(f"{Q8}/{PROVENANCE_NAME}", 0x01), (RELEASE_NAME, 0x20), (f"{Q8}/{PROVENANCE_NAME}", 0x80)],
)
def test_every_byte_of_an_envelope_counts(download: Path, keys: Keys, name: str, bit: int) -> None:
    from convert.publish.provenance.key import read_public  # noqa: PLC0415

    public = read_public(keys.public)
    data = (download / name).read_bytes()
    for place in range(len(data)):
        try:
            sealed = unseal(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
        except MalformedError:
            continue
        assert not sealed.is_signed_by(public), place


def test_an_envelope_cut_anywhere_is_none(download: Path) -> None:
    data = (download / Q8 / PROVENANCE_NAME).read_bytes()
    for length in range(len(data)):
        with pytest.raises(MalformedError):
            unseal(data[:length])


@pytest.mark.parametrize(
    "name", [MODEL, "NOTICE", "README.md", f"{Q8}/manifest.json", f"{Q8}/bom.cdx.json", "cpu-int4/model.onnx"]
)
def test_a_removed_file_is_missed(download: Path, keys: Keys, name: str) -> None:
    (download / name).unlink()
    if name == "README.md":  # nothing is made worse by reading no card
        assert examine(download, keys.public).absent == (name,)
    else:
        assert name in refused(download, keys.public).message


@pytest.mark.parametrize(
    "name", ["modeling.py", "cpu-int4/model.onnx.data.1", f"{Q8}/{RELEASE_NAME}", ".hidden/x"]
)
def test_an_added_file_is_found(download: Path, keys: Keys, name: str) -> None:
    path = download / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"added")
    failure = refused(download, keys.public)
    assert failure.message == f"{path}: nobody signed this file"


def test_an_artifact_of_another_release_is_found(download: Path, keys: Keys) -> None:
    for name in (MODEL, f"{Q8}/bom.cdx.json"):
        (download / name).write_bytes((download / name).read_bytes() + b" ")
    assert "not the file that was signed" in refused(download, keys.public).message


def test_swapped_files_are_found(download: Path, keys: Keys) -> None:
    (download / MODEL).rename(download / "x")
    (download / "Tiny-Q4_K_M.gguf").rename(download / MODEL)
    (download / "x").rename(download / "Tiny-Q4_K_M.gguf")
    assert "not the file that was signed" in refused(download, keys.public).message


def test_swapped_signatures_are_found(download: Path, keys: Keys) -> None:
    one, other = (download / target / PROVENANCE_NAME for target in ("gguf-Q8_0", "gguf-Q4_K_M"))
    first, second = (json.loads(path.read_bytes()) for path in (one, other))
    rewritten(one, lambda content: content.update(signatures=second["signatures"]))
    rewritten(other, lambda content: content.update(signatures=first["signatures"]))
    assert "the signature is wrong" in refused(download, keys.public).message


def test_swapped_statements_are_found(download: Path, keys: Keys) -> None:
    shutil.copyfile(download / Q8 / PROVENANCE_NAME, download / "gguf-Q4_K_M" / PROVENANCE_NAME)
    refused(download, keys.public)
    shutil.copyfile(download / RELEASE_NAME, download / Q8 / PROVENANCE_NAME)
    assert "another kind" in refused(download, keys.public).message


def test_the_payload_type_is_signed_too(download: Path, keys: Keys) -> None:
    path = download / Q8 / PROVENANCE_NAME
    rewritten(path, lambda content: content.update(payloadType="application/json"))
    assert "payloadType" in refused(download, keys.public).message


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(signatures=[]),
        lambda content: content.update(signatures=content["signatures"] * 2),
        lambda content: content.update(signatures=None),
        lambda content: content.update(payload=7),
        lambda content: content.update(payload="*"),
        lambda content: content.update(more=1),
        lambda content: content["signatures"][0].update(sig=""),
        lambda content: content["signatures"][0].update(sig=base64.b64encode(bytes(64)).decode()),
        lambda content: content["signatures"][0].update(keyid="0" * 64),
        lambda content: content["signatures"][0].pop("keyid"),
        lambda content: content.pop("payload"),
    ],
)
def test_a_changed_envelope_is_found(
    download: Path, keys: Keys, change: Callable[[dict[str, Any]], object]
) -> None:
    rewritten(download / Q8 / PROVENANCE_NAME, change)
    refused(download, keys.public)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        pytest.param(b"\xff", id="not UTF-8"),
        b"[" * 100_000,
        b'{"payloadType": NaN}',
        b'{"_type": "https://in-toto.io/Statement/v0.1"}',
        b'{"payload": "", "payloadType": "application/vnd.in-toto+json", "signatures": '
        b'[{"keyid": "\\ud800", "sig": "' + b"A" * 86 + b'=="}]}',
        b'{"payload": "", "payload": "", "payloadType": "x", "signatures": []}',
    ],
)
def test_what_is_no_envelope_is_refused(download: Path, keys: Keys, data: bytes) -> None:
    (download / Q8 / PROVENANCE_NAME).write_bytes(data)
    refused(download, keys.public)


def test_a_key_twice_is_refused_in_the_statement_too(download: Path, keys: Keys) -> None:
    signer = keys.signer
    payload = b'{"_type": "https://in-toto.io/Statement/v1", "subject": [], "subject": []}'
    from convert.publish.provenance.envelope import PAYLOAD_TYPE, _envelope, _written  # noqa: PLC0415

    data = _written(_envelope(payload, signer.key_id, signer.sign(payload, PAYLOAD_TYPE)))
    (download / Q8 / PROVENANCE_NAME).write_bytes(data)
    assert "in another form" in refused(download, keys.public).message


def test_a_release_must_list_files_by_their_digests(download: Path, keys: Keys) -> None:
    path = download / RELEASE_NAME
    statement = unseal(path.read_bytes()).statement()
    for changed in ({"algorithm": "sha1"}, {"digest": 7}, {"name": None}):
        listed = [{**each, **changed} for each in statement["predicate"]["resources"]]
        path.write_bytes(seal_bundle({**statement, "predicate": {"resources": listed}}, keys.signer))
        refused(download, keys.public)
    path.write_bytes(seal_bundle({**statement, "predicate": {}}, keys.signer))
    assert "lists no files" in refused(download, keys.public).message


def signed_again(path: Path, keys: Keys, change: Callable[[dict[str, Any]], object]) -> None:
    """Let the owner of the key say something else."""
    statement = unseal(path.read_bytes()).statement()
    change(statement)
    path.write_bytes(seal(statement, keys.signer))


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.update(subject=it["subject"][1:]),
        lambda it: it["subject"].append({"name": "extra", "digest": {"sha256": "0" * 64}}),
        lambda it: it["subject"].append(it["subject"][0]),
        lambda it: it["subject"].append({"name": "x"}),
        lambda it: it["predicate"]["buildDefinition"]["externalParameters"].update(target="gguf-Q2_K"),
        lambda it: it["predicate"].pop("buildDefinition"),
        lambda it: it.update(predicateType="https://slsa.dev/provenance/v0.2"),
        lambda it: it.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda it: it.update(predicate=None),
    ],
)
def test_a_statement_must_agree_with_the_manifest(
    download: Path, keys: Keys, change: Callable[[dict[str, Any]], object]
) -> None:
    (download / RELEASE_NAME).unlink()
    signed_again(download / Q8 / PROVENANCE_NAME, keys, change)
    refused(download, keys.public)


def test_another_key_vouches_for_nothing(download: Path, tmp_path: Path, keys: Keys) -> None:
    stranger = make_keys(tmp_path, seed=1)
    failure = refused(download, stranger.public)
    assert keys.signer.key_id in failure.message
    assert stranger.signer.key_id in failure.message


def test_a_stranger_who_signs_everything_anew_is_found(download: Path, tmp_path: Path, keys: Keys) -> None:
    stranger = make_keys(tmp_path, seed=1)
    (download / MODEL).write_bytes(b"evil")
    shutil.rmtree(download)
    lay_out(make_bundle(tmp_path / "theirs", stranger.signer), download)
    examine(download, stranger.public)
    refused(download, keys.public)
    # Under the name of the right key, too.
    rewritten(
        download / Q8 / PROVENANCE_NAME,
        lambda content: content["signatures"][0].update(keyid=keys.signer.key_id),
    )
    refused(download, keys.public)


def test_without_a_key_nothing_is_vouched_for(download: Path, keys: Keys) -> None:
    failure = refused(download, None)
    assert keys.signer.key_id in failure.message
    assert "--key" in failure.hint


def test_an_unsigned_repo_says_so(tmp_path: Path, keys: Keys) -> None:
    folder = lay_out(make_bundle(tmp_path / "artifacts", None), tmp_path / "repo")
    for key in (keys.public, None):
        assert "not signed" in refused(folder, key).message


def test_a_folder_without_provenance_says_so(tmp_path: Path, keys: Keys) -> None:
    make_bundle(tmp_path / "artifacts", None)
    assert PROVENANCE_NAME in refused(tmp_path / "artifacts" / "tiny" / Q8, keys.public).message
    assert "no such folder" in refused(tmp_path / "nowhere", keys.public).message


def test_the_command(download: Path, keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: object) -> tuple[int, str, str]:
        code = app.run([str(word) for word in words])
        return int(code), *capsys.readouterr()

    checked = ("inspect", download, "--verify-signature", "--key", keys.public)
    code, out, _ = run(*checked)
    assert code == 0
    assert keys.signer.key_id in out
    assert json.loads(run(*checked, "--json")[1])["targets"] == sorted(TARGETS)
    (download / MODEL).write_bytes(b"x")
    for words in (checked, checked[:3]):
        code, out, err = run(*words, "--quiet")  # a slow machine shows progress otherwise
        assert (code, out) == (1, "")
        assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "hint"]
    assert run("inspect", download, "--key", keys.public)[0] == 2
