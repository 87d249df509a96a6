"""`pytorch_model.bin` in both of its forms, read in place."""

import struct
import zipfile
from io import FileIO

from convert.checkpoint.mapped import MappedFile
from convert.checkpoint.opcode import PickleSource
from convert.checkpoint.pickle_machine import interpret
from convert.checkpoint.tensor import CUT_SHORT, DAMAGED, TensorInfo
from convert.checkpoint.torch_tensor import StateDict, locate_tensors, read_state_dict
from convert.errors import Failure, shown

_ZIP_START = b"PK\x03\x04"
_PICKLE_START = b"\x80"
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER
_STREAM_PROTOCOL = 1001  # torch.serialization.PROTOCOL_VERSION
_COUNT_BYTES = 8
_LOCAL_HEADER_BYTES = 30
_MAX_DIRECTORY_BYTES = 64 * 2**20  # half a million entries


def read_torch(file: MappedFile) -> list[TensorInfo]:
    """List the tensors of a state dict that `torch.save` wrote, by offset."""
    if file.bytes[:4] == _ZIP_START:
        return _read_zip(file)
    if file.bytes[:1] == _PICKLE_START:
        return _read_stream(file)
    what = f"{file.path}: neither of the two forms that torch.save writes"
    raise Failure(what, "load it with torch, and save the model with save_pretrained")


# The zip form (torch 1.6 and later): NAME/data.pkl, and NAME/data/KEY per storage, uncompressed.


def _read_zip(file: MappedFile) -> list[TensorInfo]:
    spans = _entries(file)
    roots = [name.removesuffix("/data.pkl") for name in spans if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise Failure(f"{file.path}: {len(roots)} entries data.pkl in the zip, not one", DAMAGED)
    root = roots[0]
    if f"{root}/constants.pkl" in spans:
        raise Failure(
            f"{file.path}: a TorchScript program, not a state dict", "save the model with save_pretrained"
        )
    start, end = spans.get(f"{root}/byteorder", (0, 0))
    if file.bytes[start:end] not in {b"", b"little"}:  # absent before torch 2.1, which wrote no other
        raise Failure(f"{file.path}: its numbers are not little-endian", "save it again on another machine")
    state = read_state_dict(PickleSource(file.path, file.bytes, *spans[f"{root}/data.pkl"]))
    offsets_bytes = {}
    for key, storage in state.storages.items():
        name = f"{root}/data/{key}"
        if name not in spans:
            raise Failure(f"{file.path}: storage {shown(key)} is not in the zip", DAMAGED)
        start, end = spans[name]
        if end - start != storage.size_bytes:
            what = f"storage {shown(key)} should take {storage.size_bytes} bytes, but takes {end - start}"
            raise Failure(f"{file.path}: {what}", DAMAGED)
        offsets_bytes[key] = start
    return locate_tensors(file.path, state, offsets_bytes)


def _entries(file: MappedFile) -> dict[str, tuple[int, int]]:
    """Find where the content of each entry begins and ends in the file."""
    try:
        with _BoundedFile(file.path) as raw, zipfile.ZipFile(raw) as archive:
            infos = archive.infolist()
    # All that the standard library raises for damaged directories; RuntimeError covers
    # NotImplementedError, for an unknown version of the format.
    except (zipfile.BadZipFile, OSError, ValueError, OverflowError, struct.error, RuntimeError) as error:
        raise Failure(f"{file.path}: damaged zip: {shown(str(error))}", CUT_SHORT) from error
    spans: dict[str, tuple[int, int]] = {}
    reached = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        where = f"{file.path}: {shown(info.filename)}"
        if info.filename in spans:
            raise Failure(f"{where} is in the zip twice", DAMAGED)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            what = f"{where} is compressed or encrypted in the zip"
            raise Failure(what, "torch.save does not compress: load it with torch and save it again")
        start = _content_start(file, info.header_offset)
        if start is None or start + info.file_size > file.size_bytes or info.header_offset < reached:
            raise Failure(f"{where} is not where the zip's directory says", CUT_SHORT)
        if info.file_size != info.compress_size:
            raise Failure(f"{where} has two sizes in the zip's directory", DAMAGED)
        reached = start + info.file_size
        spans[info.filename] = (start, reached)
    return spans


def _content_start(file: MappedFile, header_offset: int) -> int | None:
    """Skip an entry's local header, whose name and padding differ in length from the directory's."""
    header = file.bytes[header_offset : header_offset + _LOCAL_HEADER_BYTES] if header_offset >= 0 else b""
    if len(header) < _LOCAL_HEADER_BYTES or not header.startswith(_ZIP_START):
        return None
    return header_offset + _LOCAL_HEADER_BYTES + int(sum(struct.unpack_from("<HH", header, 26)))


class _BoundedFile(FileIO):
    """A file from which zipfile cannot read a directory that claims to be as long as the weights."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"a directory of {size} bytes")
        return super().read(size)


# The stream form (before torch 1.6, and still on the Hub): five pickles, then the storages.


def _read_stream(file: MappedFile) -> list[TensorInfo]:
    source = PickleSource(file.path, file.bytes, 0, file.size_bytes)
    if _plain(source) != _STREAM_MAGIC:
        what = f"{file.path}: a pickle, but not one that torch.save wrote"
        raise Failure(what, "nothing was executed; use the model's safetensors files")
    protocol, system = _plain(source), _plain(source)
    if protocol != _STREAM_PROTOCOL:
        raise Failure(f"{file.path}: unknown version of torch's format", "save it again with a newer torch")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Failure(f"{file.path}: its numbers are not little-endian", "save it again on another machine")
    state = read_state_dict(source)
    keys = _plain(source)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise Failure(f"{file.path}: has no list of its storages", DAMAGED)
    if len(set(keys)) < len(keys) or set(keys) != state.storages.keys():
        raise Failure(f"{file.path}: its list of storages is not that of its tensors", DAMAGED)
    return locate_tensors(file.path, state, _stream_offsets_bytes(file, state, keys, source.position))


def _plain(source: PickleSource) -> object:
    """Interpret a pickle of numbers, texts and containers, refusing every name."""

    def no_storage(_: object) -> object:
        raise ValueError("a storage outside the state dict")

    return interpret(source, {}, no_storage)


def _stream_offsets_bytes(file: MappedFile, state: StateDict, keys: list[str], start: int) -> dict[str, int]:
    """Find the storages: each is its count of items in 8 bytes, then the items."""
    offsets_bytes = {}
    for key in keys:
        storage = state.storages[key]
        offset_bytes = start + _COUNT_BYTES
        if offset_bytes + storage.size_bytes > file.size_bytes:
            end = offset_bytes + storage.size_bytes
            what = f"storage {shown(key)} ends at byte {end}, the file at byte {file.size_bytes}"
            raise Failure(f"{file.path}: {what}", CUT_SHORT)
        (count,) = struct.unpack_from("<q", file.bytes, start)
        if count != storage.count:
            what = f"storage {shown(key)} should hold {storage.count} items, but holds {count}"
            raise Failure(f"{file.path}: {what}", DAMAGED)
        offsets_bytes[key] = offset_bytes
        start = offset_bytes + storage.size_bytes
    if start < file.size_bytes:
        what = f"{file.size_bytes - start} bytes after the last storage belong to none"
        raise Failure(f"{file.path}: {what}", DAMAGED)
    return offsets_bytes
