"""The tensors that a state dict's pickle describes, checked against the storages in the file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from convert.checkpoint.opcode import PickleSource
from convert.checkpoint.pickle_machine import Builder, Symbol, interpret
from convert.checkpoint.tensor import DAMAGED, STORED_AS, TensorInfo, fault_of_shape
from convert.errors import Failure, shown

_PLAIN = "only a plain state dict is read: save the model with save_pretrained"

_STORAGE_DTYPES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
    "torch.storage.UntypedStorage": "U8",  # counted in bytes; `_rebuild_tensor_v3` gives the type
}
_DTYPES = {"torch.float8_e4m3fn": "F8_E4M3", "torch.float8_e5m2": "F8_E5M2"}


@dataclass(frozen=True)
class Storage:
    """An array of numbers that tensors are views on; the file has it under its key."""

    key: str
    dtype: str
    count: int

    @property
    def size_bytes(self) -> int:
        return self.count * STORED_AS[self.dtype].itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A view on a storage, counted in items; only its types have been checked."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class StateDict:
    """The tensors by name and the storages by key, as the pickle describes them."""

    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)


def read_state_dict(source: PickleSource) -> StateDict:
    """Interpret the pickle at the source's position as a plain state dict."""
    state = StateDict()

    def storage_of(persistent_id: object) -> Storage:
        storage = _storage_of(persistent_id)
        if state.storages.setdefault(storage.key, storage) != storage:
            raise ValueError(f"storage {shown(storage.key)} is described in two ways")
        return storage

    found = interpret(source, _SYMBOLS, storage_of)
    if not isinstance(found, dict):
        raise Failure(f"{source.path}: holds {_kind(found)}, not a state dict", _PLAIN)
    for name, value in found.items():
        if not isinstance(name, str) or not name.isprintable():
            raise Failure(f"{source.path}: {shown(str(name))} is not the name of a tensor", _PLAIN)
        if not isinstance(value, StoredTensor):
            raise Failure(f"{source.path}: {shown(name)} is {_kind(value)}, not a tensor", _PLAIN)
        state.tensors[name] = value
    return state


def locate_tensors(path: Path, state: StateDict, offsets_bytes: Mapping[str, int]) -> list[TensorInfo]:
    """Find the place of each tensor from those of the storages, and check that it is within its storage."""
    tensors = [
        _locate(path, name, tensor, offsets_bytes[tensor.storage.key])
        for name, tensor in state.tensors.items()
    ]
    return sorted(tensors, key=lambda info: (info.offset_bytes, info.size_bytes, info.name))


def _locate(path: Path, name: str, tensor: StoredTensor, storage_offset_bytes: int) -> TensorInfo:
    where = f"{path}: {shown(name)}"
    if fault := fault_of_shape(tensor.shape):
        raise Failure(f"{where}: {fault}", DAMAGED)
    item_bytes = STORED_AS[tensor.dtype].itemsize
    size_bytes = prod(tensor.shape) * item_bytes
    if not size_bytes:
        return TensorInfo(name, tensor.dtype, tensor.shape, path, storage_offset_bytes, 0)
    # An axis of one row is never stepped along, so its stride may be anything.
    axes = [(size, stride) for size, stride in zip(tensor.shape, tensor.strides, strict=True) if size > 1]
    reach = 1
    for size, stride in sorted(axes, key=lambda axis: axis[1]):
        if stride < reach:
            what = f"{where}: with its strides {shown(str(tensor.strides))}, elements overlap"
            raise Failure(what, "an expanded tensor was saved: call contiguous() on it and save it again")
        reach += (size - 1) * stride
    if (tensor.offset + reach) * item_bytes > tensor.storage.size_bytes:
        count = tensor.storage.size_bytes // item_bytes
        raise Failure(f"{where}: reaches to item {tensor.offset + reach} of a storage of {count}", DAMAGED)
    offset_bytes = storage_offset_bytes + tensor.offset * item_bytes
    rows_major = [
        (size, prod(tensor.shape[axis + 1 :])) for axis, size in enumerate(tensor.shape) if size > 1
    ]
    strides_bytes = None
    if axes != rows_major:
        steps = zip(tensor.shape, tensor.strides, strict=True)
        strides_bytes = tuple(item_bytes * (stride if size > 1 else 1) for size, stride in steps)
    return TensorInfo(name, tensor.dtype, tensor.shape, path, offset_bytes, size_bytes, strides_bytes)


def _storage_of(persistent_id: object) -> Storage:
    """Read ("storage", type, key, location, count), and in the old format a view."""
    match persistent_id:
        case ("storage", Symbol(name=name), str(key), _, int(count)) if name in _STORAGE_DTYPES:
            view = None
        case ("storage", Symbol(name=name), str(key), _, int(count), view) if name in _STORAGE_DTYPES:
            pass
        case _:
            raise ValueError("a persistent id that is not a storage")
    if view is not None:
        raise ValueError(f"storage {shown(key)} is a view on another, which torch no longer writes")
    if not 0 <= count < 2**56:
        raise ValueError(f"storage {shown(key)} has an impossible size")
    return Storage(key, _STORAGE_DTYPES[name], count)


def _rebuild_tensor_v2(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    _requires_grad: object,
    _hooks: object,
    _metadata: object = None,
) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise TypeError("a tensor on something that is not a storage")
    return _tensor_on(storage, storage.dtype, offset, shape, strides)


def _rebuild_tensor_v3(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    _requires_grad: object,
    _hooks: object,
    dtype: object,
    _metadata: object = None,
) -> StoredTensor:
    if not isinstance(storage, Storage) or not isinstance(dtype, Symbol) or dtype.name not in _DTYPES:
        raise TypeError("a tensor without a storage and a dtype")
    return _tensor_on(storage, _DTYPES[dtype.name], offset, shape, strides)


def _tensor_on(storage: Storage, dtype: str, offset: object, shape: object, strides: object) -> StoredTensor:
    sizes, steps = _numbers(shape), _numbers(strides)
    if len(sizes) != len(steps):
        raise ValueError(f"{len(sizes)} sizes and {len(steps)} strides")
    return StoredTensor(storage, dtype, _numbers((offset,))[0], sizes, steps)


def _numbers(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or not all(type(n) is int and 0 <= n < 2**56 for n in value):
        raise ValueError("an offset, a shape or strides with impossible integers")
    return value


def _rebuild_parameter(tensor: object, _requires_grad: object, _hooks: object) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise TypeError("a parameter that is not a tensor")
    return tensor


def _ordered_dict() -> dict[object, object]:
    return {}  # filled by SETITEMS, and a dictionary keeps its order


def _size(numbers: object) -> tuple[object, ...]:
    if not isinstance(numbers, tuple):
        raise TypeError("a size that is not a tuple")
    return numbers


_SYMBOLS: dict[str, Builder | None] = {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    **dict.fromkeys(_STORAGE_DTYPES),
    **dict.fromkeys(_DTYPES),
}


def _kind(value: object) -> str:
    """Name an object by its kind only, since its content may be endless."""
    match value:
        case StoredTensor():
            return "a single tensor"
        case Storage():
            return "a bare storage"
        case Symbol():
            return f"the name {value.name}"
        case None:
            return "nothing"
        case _:
            return f"of type {type(value).__name__}"
