"""Published to the loopback Hub, fetched with the Hub's own client, and found as it was signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import huggingface_hub
import huggingface_hub.constants
import pytest

from convert.errors import Failure
from convert.progress import Silent
from convert.publish.destinations.hub import HubDestination
from convert.publish.provenance.check import examine
from convert.source import Hub, RetryLimits
from tests.hub.server import HubServer
from tests.provenance.publication import TARGETS, make_bundle, make_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "hf_somebodysToken"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with HubServer() as server:
        server.users = {TOKEN: "somebody"}
        yield server
    huggingface_hub.close_session()


def test_what_the_hubs_client_fetches_is_what_was_signed(server: HubServer, tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    bundle = make_bundle(tmp_path / "artifacts", keys.signer)
    retry = RetryLimits(tries=3, first_wait_s=0.01, total_wait_s=5.0)
    hub = Hub(server.endpoint, tmp_path / "hub", tmp_path / "notes", token=TOKEN, retry=retry)
    with HubDestination(hub, answer_s=20) as place:
        sent = place.send(bundle, place.survey(bundle), Silent())
        place.read_back(bundle, sent, Silent())

    cache, beside = tmp_path / "cache", tmp_path / "download"
    endpoint, fetch = server.endpoint, huggingface_hub.snapshot_download
    cached = fetch(bundle.repo, endpoint=endpoint, token=TOKEN, cache_dir=cache)
    fetch(bundle.repo, endpoint=endpoint, token=TOKEN, local_dir=beside)
    for folder in (cache / cached, beside):
        vouched = examine(folder, keys.public)
        assert vouched.targets == tuple(sorted(TARGETS))
        assert vouched.absent == ()
        (folder / "Tiny-Q8_0.gguf").unlink()
        (folder / "Tiny-Q8_0.gguf").write_bytes(b"another")
        with pytest.raises(Failure, match="not the file that was signed"):
            examine(folder, keys.public)
