"""The Hub's own client finds on our server what it expects of the real one."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder

from tests.hub.repo import git_sha1, sha256
from tests.hub.server import HubServer

FILES = {"config.json": b"{}", "model.safetensors": b"x" * 3000, "onnx/model.onnx": b"y"}


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as cdn, HubServer(cdn) as server:
        server.users = {"hf_ann": "ann", "hf_bob": "bob"}
        server.add("acme/tiny", FILES)
        server.add("acme/gated", FILES, is_gated=True, readers={"ann"})
        server.add("acme/secret", FILES, is_private=True, readers={"ann"})
        yield server
    huggingface_hub.close_session()


@pytest.fixture
def api(server: HubServer) -> HfApi:
    return HfApi(server.endpoint, token="hf_ann")  # noqa: S106  of our own Hub


def test_reading(server: HubServer, api: HfApi, tmp_path: Path) -> None:
    commit = server.repos["acme/tiny"].refs["main"]
    assert api.whoami()["name"] == "ann"
    info = api.model_info("acme/tiny", files_metadata=True)
    assert info.sha == commit
    assert [sibling.lfs is not None for sibling in info.siblings or []] == [False, True, True]
    top = list(api.list_repo_tree("acme/tiny"))
    assert [type(entry) for entry in top] == [RepoFile, RepoFile, RepoFolder]
    deep = [entry for entry in api.list_repo_tree("acme/tiny", recursive=True) if isinstance(entry, RepoFile)]
    assert [entry.path for entry in deep] == list(FILES)
    (found,) = api.get_paths_info("acme/tiny", ["config.json", "none"])
    assert isinstance(found, RepoFile)
    assert found.blob_id == git_sha1(b"{}")
    assert [branch.target_commit for branch in api.list_repo_refs("acme/tiny").branches] == [commit]
    assert api.file_exists("acme/tiny", "config.json")
    assert not api.file_exists("acme/tiny", "none")
    path = api.hf_hub_download("acme/tiny", "model.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == FILES["model.safetensors"]
    assert Path(path).resolve().name == sha256(FILES["model.safetensors"])
    api.verify_repo_checksums("acme/tiny", local_dir=_written(tmp_path / "local"))


def _written(folder: Path) -> Path:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_refusals(api: HfApi, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/none")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/secret", token="hf_bob")  # noqa: S106  of our own Hub
    assert api.model_info("acme/secret").private
    with pytest.raises(RevisionNotFoundError):
        api.model_info("acme/tiny", revision="v9")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download("acme/tiny", "none.json", cache_dir=tmp_path)
    with pytest.raises(GatedRepoError):
        api.hf_hub_download("acme/gated", "config.json", token="hf_bob", cache_dir=tmp_path)  # noqa: S106
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami(token="hf_expired")  # noqa: S106  of our own Hub
