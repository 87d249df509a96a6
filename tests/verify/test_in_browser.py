"""A page in a browser asks our transformers.js folder one question: onnxruntime-web, as WebAssembly.

`make test-browser` runs it: it installs transformers.js, and takes the Chromium that is on PATH.
"""

from __future__ import annotations

import functools
import http.server
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from convert import convert_recipe
from convert.formats import load_recipe
from convert.store import read_manifest
from tests.report.chromium import Chromium, find_chromium
from tests.verify.opening import CHAT, opened
from verify.runtimes import Request
from verify.runtimes.transformers_js import MODULES, PACKAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.apart,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (MODULES / PACKAGE).is_file(), reason="`make node` installs transformers.js"),
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium"),
]
MODEL = Path(__file__).parents[2] / "recipes" / "models" / "tiny-qwen"
TOKENS = 12
PAGE = """<!doctype html>
<script type="importmap">{"imports": {
  "onnxruntime-common": "/node_modules/onnxruntime-common/dist/esm/index.js",
  "onnxruntime-web": "/node_modules/onnxruntime-web/dist/ort.bundle.min.mjs",
  "onnxruntime-web/webgpu": "/node_modules/onnxruntime-web/dist/ort.webgpu.bundle.min.mjs"
}}</script>
<script type="module">
import { pipeline, env } from "/node_modules/@huggingface/transformers/dist/transformers.web.js";
env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = "/";
env.useBrowserCache = false;
env.backends.onnx.wasm.wasmPaths = "/node_modules/onnxruntime-web/dist/";
env.backends.onnx.wasm.numThreads = 1;
window.ask = async (messages, count) => {
  const generate = await pipeline("text-generation", "model", { device: "wasm", dtype: "q4" });
  const found = await generate(messages, { max_new_tokens: count, do_sample: false });
  return found[0].generated_text.at(-1).content;
};
</script>
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve files, and write no log."""

    extensions_map = {  # noqa: RUF012 - as the class above has it
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """Serve the page, the library and a folder that was just built, on loopback."""
    path = tmp_path / "tiny.yaml"
    options = f"{{precision: int4, layout: transformers.js, embedding: {request.param}}}"
    path.write_text(f"model: {MODEL}\ntargets: {{onnx: {options}}}\n", "utf-8")
    convert_recipe(load_recipe(path), out=tmp_path / "out", threads=1, offline=True)
    folder = tmp_path / "out" / "tiny" / "onnx-int4-cpu"
    root = tmp_path / "site"
    root.mkdir()
    (root / "index.html").write_text(PAGE, "utf-8")
    (root / "model").symlink_to(folder)
    (root / "node_modules").symlink_to((MODULES / "node_modules").resolve())
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", folder
        server.shutdown()


@pytest.mark.parametrize("site", ["native"], indirect=True)
def test_a_page_answers_as_onnxruntime_does(site: tuple[str, Path]) -> None:
    address, folder = site
    with opened("onnxruntime", folder) as worker:
        ids = worker.tokenize(worker.apply_template(CHAT), special=True)
        request = Request(ids=tuple(ids), max_tokens=TOKENS)
        wanted = "".join(piece.text for piece in worker.generate(request))
    with Chromium(find_chromium() or "") as browser:
        browser.open_address(address)
        assert not browser.errors
        found = browser.run(f"ask({json.dumps(CHAT)}, {TOKENS})")
    assert found == wanted.strip() != ""


@pytest.mark.parametrize("site", ["int8"], indirect=True)
def test_a_page_cannot_look_up_8_bits(site: tuple[str, Path]) -> None:
    """The manifest says so; once onnxruntime-web can, that and the default should go."""
    address, folder = site
    assert "read in Node alone" in str(read_manifest(folder).deviations)
    with Chromium(find_chromium() or "") as browser:
        browser.open_address(address)
        with pytest.raises(AssertionError, match="GatherBlockQuantized"):
            browser.run(f"ask({json.dumps(CHAT)}, {TOKENS})")
