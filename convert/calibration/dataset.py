"""A Hub dataset: pinned, fetched as far as needed, and read from its column `text` or `messages`."""

import csv
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any

from convert.calibration.dialogue import Dialogue
from convert.calibration.draw import shuffled
from convert.errors import Failure
from convert.progress import Progress
from convert.size import size
from convert.source import Hub, Listing, fetch_files, is_legal, list_dataset
from convert.strict_json import parse

# In order of preference: forms that Python reads by itself come first. Of several forms, one is used.
FORMS = (".jsonl", ".jsonl.gz", ".txt", ".txt.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")
# Files that describe the texts.
ABOUT = re.compile(r"(?i)(.*/)?(readme|requirements|dataset_infos?|state|package|metadata)\.\w+")
HELD_OUT = re.compile(r"(?i)(test|valid|dev|eval)")
MAX_LINE_BYTES = 16 << 20
MAX_ARRAY_BYTES = 256 << 20  # of a .json that is one array, which has to be read whole
PARQUET_ROWS = 256
HINT = "write its texts to a file, and use that: calibration: {text: FILE}"

Item = str | Dialogue


def find(name: str, hub: Hub) -> Listing:
    """Pin a dataset to its commit, and check that it has a readable file."""
    listing = list_dataset(name, hub=hub)
    readable(listing)
    return listing


def readable(listing: Listing) -> list[str]:
    """Choose the files with its texts, in one form, preferably of the training part."""
    names = [name for name in sorted(listing.files) if not is_legal(name) and not ABOUT.fullmatch(name)]
    for form in FORMS:
        found = [name for name in names if name.lower().endswith(form)]
        train = [name for name in found if "train" in name.lower()]
        # Test data is used only if there is nothing else.
        kept = train or [name for name in found if not HELD_OUT.search(name)] or found
        if kept:
            return kept
    what = f"none of its {len(listing.files)} files is one of {', '.join(FORMS)}"
    raise Failure(f"{listing.model}: {what}", HINT)


def read(
    listing: Listing, hub: Hub, max_bytes: int, seed: int, progress: Progress | None = None
) -> Iterator[Item]:
    """Read texts and conversations of about `max_bytes`, from files that the seed chooses."""
    wanted, size_bytes = [], 0
    for name in shuffled(readable(listing), seed):
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
    """Read the items of one file."""
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            yield from _of_records(_parquet(path, where), where)
            return
        with _open(path) as file:
            if name.endswith(".txt"):
                yield from map(bytes.decode, _lines(file))
            elif name.endswith(".csv"):
                csv.field_size_limit(MAX_LINE_BYTES)
                yield from _of_records(csv.DictReader(map(bytes.decode, _lines(file))), where)
            else:
                yield from _of_records(_json(file, where), where)
    except UnicodeDecodeError as error:
        raise Failure(f"{where}: not UTF-8 text: {error.reason}", HINT) from error
    except (EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
        raise Failure(f"{where}: damaged: {error}", HINT) from error


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.readline(MAX_LINE_BYTES), b"")


def _json(file: IO[bytes], where: str) -> Iterator[Any]:
    """Read one object per line, or one array of objects."""
    lines = filter(bytes.strip, _lines(file))
    first = next(lines, b"")
    if first.lstrip().startswith(b"["):
        whole = first + file.read(MAX_ARRAY_BYTES)
        if len(whole) > MAX_ARRAY_BYTES:
            raise Failure(f"{where}: one array of more than {size(MAX_ARRAY_BYTES)}", HINT)
        yield from parse(whole, where, HINT)
    elif first:
        yield from (parse(line, where, HINT) for line in chain([first], lines))


def _parquet(path: Path, where: str) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow as pa  # noqa: PLC0415  (170 MB, and needed for nothing else)
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        what = f"{where}: a Parquet file, and pyarrow is not installed"
        raise Failure(what, f"pip install 'modelwright[parquet]', or {HINT}") from None
    try:
        with parquet.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in ("text", "messages")]
            if not columns:
                yield dict.fromkeys(file.schema_arrow.names)
            for batch in file.iter_batches(PARQUET_ROWS, columns=columns[:1]):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Failure(f"{where}: not a valid Parquet file: {reason}", HINT) from error


def _of_records(records: Iterable[Any], where: str) -> Iterator[Item]:
    for record in records:
        if not isinstance(record, dict):
            raise Failure(f"{where}: a record is not an object with columns", HINT)
        item = _item(record, where)
        if item:
            yield item


def _item(record: Mapping[str, Any], where: str) -> Item | None:
    text, messages = record.get("text"), record.get("messages")
    if isinstance(text, str):
        return f"{text}\n"
    if isinstance(messages, list):
        found = [each for each in messages if isinstance(each, dict)]
        if all(isinstance(each.get("role"), str) and isinstance(each.get("content"), str) for each in found):
            return Dialogue.of_messages(found)
    if "text" in record or "messages" in record:
        return None  # an empty record, or one of another kind
    listed = ", ".join(map(str, list(record)[:8]))
    raise Failure(f"{where}: no column `text` or `messages`; it has {listed}", HINT)
