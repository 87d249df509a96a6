"""A Hub dataset: pinned, fetched as far as it is needed, and read by its column `text` or `messages`."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import zlib
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

from convert.calibration.dialogue import Dialogue
from convert.errors import Failure
from convert.size import size
from convert.source import fetch_files, is_legal, list_dataset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from convert.progress import Progress
    from convert.source import Hub, Listing

# In the order of preference: what needs nothing but Python before what needs a library. Where a dataset has
# its texts in two forms, one is enough.
FORMS = (".jsonl", ".jsonl.gz", ".txt", ".txt.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")
# Beside the texts: what describes them.
ABOUT = re.compile(r"(?i)(.*/)?(readme|requirements|dataset_infos?|state|package|metadata)\.\w+")
HELD_OUT = re.compile(r"(?i)(test|valid|dev|eval)")
MAX_LINE_BYTES = 16 << 20
MAX_ARRAY_BYTES = 256 << 20  # of a .json that is one array, and so has to be read whole
PARQUET_ROWS = 256
OTHERWISE = "write its texts to a file of yours, and name that: calibration: {text: FILE}"

Item = str | Dialogue


def find(name: str, hub: Hub) -> Listing:
    """Pin a dataset to its commit, and see that something in it can be read."""
    listing = list_dataset(name, hub=hub)
    readable(listing)
    return listing


def readable(listing: Listing) -> list[str]:
    """The files with its texts, of one form, and of the training part where there is one."""
    names = [name for name in sorted(listing.files) if not is_legal(name) and not ABOUT.fullmatch(name)]
    for form in FORMS:
        found = [name for name in names if name.lower().endswith(form)]
        train = [name for name in found if "train" in name.lower()]
        # What others test on is no text to learn from, where there is another.
        kept = train or [name for name in found if not HELD_OUT.search(name)] or found
        if kept:
            return kept
    raise Failure(
        f"{listing.model}: none of its {len(listing.files)} files is one of {', '.join(FORMS)}", OTHERWISE
    )


def read(
    listing: Listing, hub: Hub, max_bytes: int, seed: int, progress: Progress | None = None
) -> Iterator[Item]:
    """Texts and conversations of about so many bytes, from files that the seed chooses."""
    drawn = sorted(readable(listing), key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    wanted, size_bytes = [], 0
    for name in drawn:
        if size_bytes < max_bytes:
            wanted.append(name)
            size_bytes += listing.files[name].size_bytes
    folder = fetch_files(listing, wanted, hub=hub, progress=progress).folder
    left_bytes = max_bytes
    for name in wanted:
        for item in _items(folder / name, f"{listing.repo}/{name}"):
            yield item
            left_bytes -= len(item if isinstance(item, str) else item.continuation())
            if left_bytes <= 0:
                return


def _items(path: Path, where: str) -> Iterator[Item]:
    """Everything in one file, as far as it is asked for."""
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            yield from _of_records(_parquet(path, where), where)
            return
        with _opened(path) as file:
            if name.endswith(".txt"):
                yield from _lines(file)
            elif name.endswith(".csv"):
                csv.field_size_limit(MAX_LINE_BYTES)
                yield from _of_records(csv.DictReader(_lines(file)), where)
            else:
                yield from _of_records(_json(file, where), where)
    except UnicodeDecodeError as error:
        raise Failure(f"{where}: not UTF-8 text: {error.reason}", OTHERWISE) from error
    except (EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
        raise Failure(f"{where}: it is damaged: {error}", OTHERWISE) from error


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _lines(file: IO[bytes]) -> Iterator[str]:
    while line := file.readline(MAX_LINE_BYTES):
        yield line.decode("utf-8")


def _json(file: IO[bytes], where: str) -> Iterator[Any]:
    """An object a line, or one array of them."""
    first = file.readline(MAX_LINE_BYTES)
    while first and not first.strip():
        first = file.readline(MAX_LINE_BYTES)
    try:
        if first.lstrip().startswith(b"["):
            whole = first + file.read(MAX_ARRAY_BYTES)
            if len(whole) > MAX_ARRAY_BYTES:
                raise Failure(f"{where}: one array of more than {size(MAX_ARRAY_BYTES)}", OTHERWISE)
            yield from json.loads(whole)
            return
        for line in chain([first], iter(lambda: file.readline(MAX_LINE_BYTES), b"")):
            if line.strip():
                yield json.loads(line)
    except (ValueError, RecursionError, TypeError) as error:
        raise Failure(f"{where}: it is not JSON: {error}", OTHERWISE) from error


def _parquet(path: Path, where: str) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow as pa  # noqa: PLC0415  (170 MB that nothing else here needs)
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise Failure(
            f"{where}: a Parquet file, and pyarrow is not installed",
            f"pip install 'modelwright[parquet]', or {OTHERWISE}",
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in ("text", "messages")]
            if not columns:
                yield dict.fromkeys(file.schema_arrow.names)
            for batch in file.iter_batches(PARQUET_ROWS, columns=columns[:1]):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Failure(f"{where}: it is no sound Parquet file: {reason}", OTHERWISE) from error


def _of_records(records: Iterable[Any], where: str) -> Iterator[Item]:
    for record in records:
        if not isinstance(record, dict):
            raise Failure(f"{where}: a record is no object with columns", OTHERWISE)
        item = _item(record, where)
        if item:
            yield item


def _item(record: Mapping[str, Any], where: str) -> Item | None:
    text, messages = record.get("text"), record.get("messages")
    if isinstance(text, str):
        return f"{text}\n"
    if isinstance(messages, list):
        said = [each for each in messages if isinstance(each, dict)]
        if all(isinstance(each.get("role"), str) and isinstance(each.get("content"), str) for each in said):
            return Dialogue.of_messages(said)
    if "text" in record or "messages" in record:
        return None  # an empty record, or one of another kind among many
    listed = ", ".join(map(str, list(record)[:8]))
    raise Failure(f"{where}: no column `text` or `messages`; it has {listed}", OTHERWISE)
