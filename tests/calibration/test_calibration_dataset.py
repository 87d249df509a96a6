"""Hub datasets: pinned, checked, read in every form, and no more of them fetched than is needed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub.constants
import pytest

from convert import convert_recipe
from convert.calibration import Source, find_source, identity, windows
from convert.errors import Failure
from convert.formats import option_models
from convert.recipe import load
from convert.recipe.model import Calibration
from convert.source import Hub, RetryLimits
from tests.calibration.words import WORDS, tokenizer
from tests.hub.datasets import DatasetServer
from tests.hub.server import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "acme/texts"
TEXTS = [" ".join(WORDS[(start + step) % 200] for step in range(40)) for start in range(30)]
ROWS = [{"id": index, "text": text} for index, text in enumerate(TEXTS)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server() -> Iterator[DatasetServer]:
    with DatasetServer() as server:
        yield server
    huggingface_hub.close_session()


@pytest.fixture
def hub(server: DatasetServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    retry = RetryLimits(tries=2, first_wait_s=0.01, longest_wait_s=0.05, total_wait_s=1, read_timeout_s=2)
    return Hub(server.endpoint, cache=tmp_path / "hub", notes=tmp_path / "notes", retry=retry)


def settings(**changes: Any) -> Calibration:
    return Calibration.model_validate({"dataset": NAME, "samples": 4, "length": 50, **changes})


def found(hub: Hub, **changes: Any) -> Source:
    return find_source(settings(**changes), Path(), hub)


def tokens(hub: Hub, **changes: Any) -> list[list[int]]:
    cut = windows(settings(**changes), Path(), tokenizer(), 4096, source=found(hub, **changes))
    return [window.tolist() for window in cut.tokens]


def csv_bytes() -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, ["id", "text"])
    writer.writeheader()
    writer.writerows(ROWS)
    return file.getvalue().encode()


def parquet_bytes(columns: dict[str, list[Any]]) -> bytes:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


FORMS: dict[str, Callable[[], bytes]] = {
    "data/part.jsonl": lambda: JSONL,
    "part.jsonl.gz": lambda: gzip.compress(JSONL, mtime=0),
    "part.txt": lambda: "\n".join(TEXTS).encode(),
    "part.txt.gz": lambda: gzip.compress("\n".join(TEXTS).encode(), mtime=0),
    "part.json": lambda: json.dumps(ROWS, indent=1).encode(),
    "lines.json": lambda: JSONL,
    "part.csv": csv_bytes,
    "data/train-00000.parquet": lambda: parquet_bytes({"id": list(range(30)), "text": TEXTS}),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_tokens(name: str, server: DatasetServer, hub: Hub) -> None:
    about = {"README.md": b"# texts", "dataset_infos.json": b"{}", "LICENSE.txt": b"free"}
    server.add_dataset(NAME, {name: FORMS[name](), **about})
    drawn = tokens(hub, samples=24)
    assert list(chain.from_iterable(drawn)) == [
        (start + step) % 200 for start in range(30) for step in range(40)
    ]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_messages_are_laid_out_by_the_model_s_own_template(
    form: str, server: DatasetServer, hub: Hub
) -> None:
    said = [
        {"role": "system", "content": "w0"},
        {"role": "user", "content": "w1 w2"},
        {"role": "assistant", "content": "w3 w4"},
        {"role": "user", "content": "never answered"},
    ]
    lines = [{"messages": said}, {"messages": [said[1]]}] * 20
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    files = {"a.jsonl": content}
    if form == "parquet":
        files = {"a.parquet": parquet_bytes({"messages": [line["messages"] for line in lines]})}
    server.add_dataset(NAME, files)
    template = "{% for m in messages %}{{ m.content }} <s> {% endfor %}"
    made = tokenizer(chat_template=template)
    cut = windows(settings(samples=99), Path(), made, 4096, source=found(hub))
    assert cut.tokens[0].tolist()[:16] == [0, 200, 1, 2, 200, 3, 4, 200] * 2
    plain = windows(settings(samples=99), Path(), tokenizer(), 4096, source=found(hub))
    assert plain.tokens[0].tolist()[:8] == [0, 1, 2, 201, 3, 4, 0, 1]  # the cue is a word unknown here


def test_what_others_test_on_is_left_alone(server: DatasetServer, hub: Hub) -> None:
    files = {f"data/{split}.jsonl": JSONL for split in ("test", "validation", "train")}
    files["data/train.jsonl"] = JSONL.replace(b"w7 ", b"w8 ")
    server.add_dataset(NAME, files)
    tokens(hub)
    assert [len(server.bodies(f"{split}.jsonl")) for split in ("test", "validation", "train")] == [0, 0, 1]


def test_no_more_is_fetched_than_is_read(
    server: DatasetServer, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convert.calibration.MIN_READ_BYTES", 1000)
    server.add_dataset(NAME, {f"part-{number}.jsonl": JSONL for number in range(9)})
    drawn = {seed: tokens(hub, seed=seed) for seed in (0, 1)}
    fetched = [exchange for exchange in server.log if "/resolve/" in exchange.path]
    assert 1 <= len(fetched) <= 2
    assert tokens(hub, seed=0) == drawn[0]


def test_a_commit_is_what_is_recorded(server: DatasetServer, hub: Hub) -> None:
    repo = server.add_dataset(NAME, {"a.jsonl": JSONL})
    before = found(hub)
    assert before.label == f"{NAME}@{repo.refs['main']}"
    repo.commit({"a.jsonl": JSONL.replace(b"w7 ", b"w8 ")})
    after = found(hub)
    assert identity(before, settings()) != identity(after, settings())
    assert identity(after, settings()) != identity(after, settings(seed=1))
    # What was pinned before is still read as it was.
    cut = [windows(settings(), Path(), tokenizer(), 4096, source=each) for each in (before, after)]
    assert cut[0].digest != cut[1].digest
    assert cut[0].source == before.label


def test_what_was_fetched_serves_offline(server: DatasetServer, hub: Hub) -> None:
    server.add_dataset(NAME, {"data/a.jsonl": JSONL})
    online = tokens(hub)
    asked = len(server.log)
    assert tokens(replace(hub, is_offline=True)) == online
    assert len(server.log) == asked
    with pytest.raises(Failure, match="acme/other: offline"):
        found(replace(hub, is_offline=True), dataset="acme/other")


def test_a_flipped_byte_is_refused(server: DatasetServer, hub: Hub) -> None:
    server.add_dataset(NAME, {"a.jsonl": JSONL})
    server.faults.append(Fault("flip", path="/resolve/", times=2, after_bytes=20))
    with pytest.raises(Failure, match="its digest is not the listed one"):
        tokens(hub)


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"data.zip": b"PK"}, r"none of its 1 files is one of \.jsonl"),
        (
            {"a.jsonl": b'{"body": "w1", "title": "w2"}\n'},
            "no column `text` or `messages`; it has body, title",
        ),
        ({"a.csv": b"body,title\nw1,w2\n"}, "no column `text` or `messages`; it has body, title"),
        ({"a.jsonl": b'{"text": '}, "a.jsonl is not valid JSON"),
        ({"a.jsonl": b"[1, 2]"}, "a record is not an object"),
        ({"a.jsonl.gz": gzip.compress(JSONL, mtime=0)[:80]}, "a.jsonl.gz: damaged"),
        ({"a.txt": "w1 w2".encode("utf-16")}, "a.txt: not UTF-8"),
        ({"a.jsonl": b'{"text": ""}\n'}, "acme/texts: the text makes 0 tokens"),
        ({"a.parquet": b"PAR1 and nothing more"}, "not a valid Parquet file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_what_cannot_be_read_is_refused(
    files: dict[str, bytes], what: str, server: DatasetServer, hub: Hub
) -> None:
    if "a.parquet" in files:
        pytest.importorskip("pyarrow")
    server.add_dataset(NAME, files)
    with pytest.raises(Failure, match=what):
        tokens(hub)


def test_a_parquet_without_the_column_is_refused(server: DatasetServer, hub: Hub) -> None:
    server.add_dataset(NAME, {"a.parquet": parquet_bytes({"body": ["w1"], "title": ["w2"]})})
    with pytest.raises(Failure, match="it has body, title"):
        tokens(hub)


def test_without_pyarrow_a_person_hears_what_to_install(
    server: DatasetServer, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add_dataset(NAME, {"a.parquet": b"PAR1"})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Failure, match="pyarrow is not installed") as raised:
        tokens(hub)
    assert "pip install 'modelwright[parquet]'" in raised.value.hint


def test_a_dataset_that_is_not_there_is_named(server: DatasetServer, hub: Hub) -> None:
    server.add(NAME, {"config.json": b"{}"})  # a model of that name is another thing
    with pytest.raises(Failure, match="acme/texts: no such dataset on"):
        found(hub)


@pytest.mark.parametrize("source", ["packs: [searchqa, lessonpack]", f"dataset: {NAME}"])
def test_an_importance_matrix_learns_from_it(
    source: str, server: DatasetServer, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    repo = server.add_dataset(NAME, {"a.txt": "使用以下提供的资料来回答最后的问题。\n".encode() * 400})

    def built(seed: int) -> tuple[str, bytes]:
        path = tmp_path / "mine.yaml"
        path.write_text(
            f"model: {ROOT / 'recipes/models/tiny-qwen'}\n"
            "targets: {gguf: {quants: [Q4_0], imatrix: calibration}}\n"
            f"calibration: {{{source}, samples: 2, length: 64, seed: {seed}}}\n"
        )
        convert_recipe(load(path, option_models()), out=tmp_path / "out", offline=False)
        folder = tmp_path / "out/mine/gguf-Q4_0"
        manifest = json.loads((folder / "manifest.json").read_text())
        told = manifest["options"]["calibration"]
        assert (told["windows"], told["length"], len(told["sha256"])) == (2, 64, 64)
        return manifest["key"], (folder / "imatrix.gguf").read_bytes()

    one, again, other = built(0), built(0), built(1)
    assert one == again
    assert one[0] != other[0]
    if "dataset" in source:
        repo.commit({"a.txt": "我需要为小学生设计一堂课。\n".encode() * 600})
        newer = built(1)
        assert newer[0] != other[0]
        assert newer[1] != other[1]
    else:
        assert one[1] != other[1]
