"""An interpreter for pickles that only builds data: a stack, a memo, and builders for a few names.

Python's Unpickler imports and calls what a pickle names. This machine imports nothing: it knows the opcodes
that `torch.save` emits for a state dict, and resolves a name to one of our builders or refuses it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from convert.checkpoint.opcode import PickleSource, split
from convert.errors import Failure, shown

Builder = Callable[..., object]
_T = TypeVar("_T")

# A state dict of 50,000 tensors takes two million. An opcode creates at most one object, so this
# and the length that PickleSource allows bound the memory.
_MAX_OPCODES = 4_000_000

_HINT = "nothing was executed; use the model's safetensors files, or save it again with save_pretrained"


@dataclass(frozen=True)
class Symbol:
    """A name that the pickle may use, and what builds its result if it is called."""

    name: str
    builder: Builder | None = None


def interpret(
    source: PickleSource, symbols: Mapping[str, Builder | None], storage_of: Callable[[object], object]
) -> object:
    """Interpret the pickle at the source's position, and leave the source after its STOP."""
    machine = _Machine(symbols, storage_of)
    where = f"byte {source.position}"
    try:
        for opcode in split(source):
            where = f"{opcode.name} at byte {opcode.position}"
            machine.step(opcode.name, opcode.argument)
    except _Refused as refusal:
        raise Failure(f"{source.path}: the pickle {refusal} ({where})", _HINT) from None
    except (ValueError, TypeError) as error:
        # From split: bytes that are not a pickle; from a step: missing operands.
        what = f"{source.path}: damaged pickle after {where}: {shown(str(error))}"
        raise Failure(what, "the file is damaged: download it again") from error
    return machine.stack[-1]


class _Refused(Exception):
    """The pickle uses something that no state dict needs."""


class _Machine:
    def __init__(self, symbols: Mapping[str, Builder | None], storage_of: Callable[[object], object]) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        self._steps = 0
        self._symbols = symbols
        self._storage_of = storage_of

    def step(self, name: str, argument: object) -> None:
        self._steps += 1
        if self._steps > _MAX_OPCODES:
            raise _Refused(f"has more than {_MAX_OPCODES} opcodes")
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            self.stack.append(argument)
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name == "INST":  # the one opcode that both names and calls
            raise _Refused(f"names {shown(str(argument))}")
        elif name not in _IGNORED:
            raise _Refused(f"uses an opcode that no state dict needs{self._top_name()}")

    def _top_name(self) -> str:
        top = self.stack[-1] if self.stack else None
        return f", on {top.name}" if isinstance(top, Symbol) else ""

    def _pop(self) -> object:
        # An opcode must not take what is below a mark.
        if len(self.stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError("the stack is empty")
        return self.stack.pop()

    def _pop_mark(self) -> list[Any]:
        if not self._marks:
            raise ValueError("no mark on the stack")
        height = self._marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    def _top(self, kind: type[_T]) -> _T:
        top = self._pop()
        if not isinstance(top, kind):
            raise TypeError(f"no {kind.__name__} on the stack")
        self.stack.append(top)
        return top

    def mark(self, _: object) -> None:
        self._marks.append(len(self.stack))

    def stop(self, _: object) -> None:
        if len(self.stack) != 1 or self._marks:
            raise ValueError(f"{len(self.stack)} objects on the stack instead of one")

    def put(self, key: int) -> None:
        if not self.stack:
            raise ValueError("the stack is empty")
        self._memo[key] = self.stack[-1]

    def memoize(self, _: object) -> None:
        self.put(len(self._memo))

    def get(self, key: int) -> None:
        if key not in self._memo:
            raise ValueError(f"the memo has no {key}")
        self.stack.append(self._memo[key])

    def tuple_of_marked(self, _: object) -> None:
        self.stack.append(tuple(self._pop_mark()))

    def tuple_of(self, count: int) -> None:
        self.stack.append(tuple(reversed([self._pop() for _ in range(count)])))

    def append(self, _: object) -> None:
        item = self._pop()
        self._top(list).append(item)

    def appends(self, _: object) -> None:
        items = self._pop_mark()
        self._top(list).extend(items)

    def set_item(self, _: object) -> None:
        value, key = self._pop(), self._pop()
        self._set(key, value)

    def set_items(self, _: object) -> None:
        items = self._pop_mark()
        if len(items) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(key, value)

    def _set(self, key: object, value: object) -> None:
        entries = self._top(dict)
        # Hashing a tuple hashes its items, and a crafted one is endlessly deep.
        if not isinstance(key, str | int):
            raise _Refused("has a dictionary key that is neither text nor an integer")
        if key in entries:
            raise _Refused(f"names {shown(str(key))} twice")
        entries[key] = value

    def global_name(self, argument: str) -> None:
        self.stack.append(self._symbol(argument))

    def stack_global(self, _: object) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name that is not text")
        self.stack.append(self._symbol(f"{module}.{name}"))

    def _symbol(self, name: str) -> Symbol:
        if name not in self._symbols:
            raise _Refused(f"names {shown(name)}")
        return Symbol(name, self._symbols[name])

    def reduce(self, _: object) -> None:
        arguments, called = self._pop(), self._pop()
        if not isinstance(called, Symbol) or not isinstance(arguments, tuple):
            raise TypeError("a call of something that is not a name")
        if called.builder is None:
            raise _Refused(f"calls {called.name}")
        try:
            self.stack.append(called.builder(*arguments))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{called.name}: {error}") from error

    def build(self, _: object) -> None:
        """Drop the attributes of a dictionary (torch sets `_metadata`); nothing else has any."""
        state = self._pop()
        self._top(dict)
        if not isinstance(state, dict):
            raise TypeError("attributes that are not a dictionary")

    def persistent_id(self, _: object) -> None:
        self.stack.append(self._storage_of(self._pop()))


_IGNORED = {"PROTO", "FRAME"}
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "STOP": _Machine.stop,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "TUPLE": _Machine.tuple_of_marked,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.global_name,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}
