"""Hostile pickles: refused by the name of what they want, nothing run, nothing imported, little spent."""

import copyreg
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from convert.checkpoint import open_checkpoint, pickle_machine
from convert.errors import Failure

CANARY_MODULE = "from pathlib import Path\nPath('canary').touch()\ndef sing(*_): Path('canary').touch()\n"


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


TOUCH = text("touch canary")
OPEN = text("__import__('pathlib').Path('canary').touch()")
SYSTEM = b"cos\nsystem\n" + TOUCH + b"\x85R"

# Each of these leaves a canary when Python's own pickle loads it.
LIVE: dict[str, tuple[bytes, str]] = {
    "reduce": (SYSTEM + b".", "names os.system (GLOBAL at byte 44)"),
    "protocol 2": (b"\x80\x02" + SYSTEM + b".", "names os.system (GLOBAL at byte 46)"),
    "eval": (b"cbuiltins\neval\n" + OPEN + b"\x85R.", "names builtins.eval"),
    "python 2's name of it": (b"\x80\x02c__builtin__\neval\n" + OPEN + b"\x85R.", "names __builtin__.eval"),
    "stack_global": (
        b"\x80\x04\x8c\x02os\x8c\x06system\x93" + TOUCH + b"\x85R.",
        "names os.system (STACK_GLOBAL",
    ),
    "inst": (b"(" + TOUCH + b"ios\nsystem\n.", "names os.system (INST"),
    "obj": (b"(cos\nsystem\n" + TOUCH + b"o.", "names os.system"),
    "newobj": (b"ccanary_module\nsing\n)\x81.", "names canary_module.sing"),
    "an import alone": (b"ccanary_module\nsing\n.", "names canary_module.sing"),
    "in a list in a tuple in a dict": (
        b"}" + text("w") + b"](" + SYSTEM + b"tas.",
        "names os.system",
    ),
    "as a key": (b"}" + SYSTEM + b"Ns.", "names os.system"),
    "under a symbol that is allowed": (
        b"ccollections\nOrderedDict\n](" + text("a") + SYSTEM + b"ea\x85R.",
        "names os.system",
    ),
    "as attributes": (
        b"ccollections\nOrderedDict\n)R}" + text("_metadata") + SYSTEM + b"sb.",
        "names os.system",
    ),
    "over a memo": (
        b"ccollections\nOrderedDict\nq\x00cos\nsystem\nq\x00h\x00" + TOUCH + b"\x85R.",
        "names os.system",
    ),
    "through an attribute": (
        b"\x80\x04" + text("os") + text("path.os.system") + b"\x93" + TOUCH + b"\x85R.",
        "names os.path.os.system",
    ),
    "an extension": (b"\x82\xf0" + TOUCH + b"\x85R.", "uses an opcode that no state dict needs (EXT1"),
    "after a legal beginning": (
        b"}" + text("w") + b"N" + b"s0" + SYSTEM + b".",
        "uses an opcode that no state dict needs (POP",
    ),
}

DEAD: dict[str, tuple[bytes, str]] = {
    "numpy": (b"cnumpy.core.multiarray\n_reconstruct\n.", "names numpy.core.multiarray._reconstruct"),
    "torch's own loader": (b"ctorch.storage\n_load_from_bytes\n.", "names torch.storage._load_from_bytes"),
    "newobj on an allowed name": (
        b"ccollections\nOrderedDict\n)\x81.",
        "no state dict needs (NEWOBJ",
    ),
    "inst of an allowed name": (b"(icollections\nOrderedDict\n.", "names collections.OrderedDict (INST"),
    "a storage called": (b"ctorch\nFloatStorage\n)R.", "calls torch.FloatStorage (REDUCE"),
    "arguments that do not fit": (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "_rebuild_tensor_v2"),
    "arguments of another kind": (
        b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR.",
        "a tensor on something that is not a storage",
    ),
    "attributes on a name": (b"ccollections\nOrderedDict\n}b.", "no dict on the stack"),
    "a persistent id of text": (b"Pos.system\n.", "no state dict needs (PERSID"),
    "a persistent id of nothing": (b"NQ.", "not a storage"),
    "a class by persistent id": (b"(" + text("module") + b"NNNtQ.", "not a storage"),
    "a name of two texts that are none": (b"NN\x93.", "a name that is not text"),
    "an unprintable name": (b"cos\x1b[2J\nsystem\n.", r"names 'os\x1b[2J.system'"),
    "a name without an end": (b"cos", "damaged pickle"),
    "an unknown opcode": (b"\xff.", "damaged pickle"),
    "no stop": (b"}", "damaged pickle"),
    "nothing to stop at": (b".", "0 objects on the stack"),
    "a mark left over": (b"(}.", "objects on the stack"),
    "an empty stack": (b"R.", "the stack is empty"),
    "a hand below the mark": (b"](Na.", "the stack is empty"),
    "no mark": (b"t.", "no mark"),
    "an odd count": (b"}(Nu.", "a key without a value"),
    "a memo never put": (b"h\x07.", "the memo has no 7"),
    "a name twice": (b"}" + text("w") + b"Ns" + text("w") + b"Ns.", "names w twice"),
    "a tuple for a key": (b"}))\x86Ns.", "neither text nor an integer"),
    "text of a terabyte": (b"\x8d" + struct.pack("<Q", 2**40) + b"x.", "damaged pickle"),
    "text of four gigabytes": (b"X\xff\xff\xff\xffx.", "damaged pickle"),
    "bytes of a terabyte": (b"\x8e" + struct.pack("<Q", 2**40) + b"x.", "no state dict needs (BINBYTES8"),
    "a number of two gigabytes": (b"\x8b\xff\xff\xff\x7fx.", "no state dict needs (LONG4"),
    "a long number in letters": (b"L" + b"9" * 5000 + b"L\n.", "no state dict needs (LONG "),
    "lists to no bottom": (b"]" * 50_000 + b"a" * 49_999 + b".", "holds of type list"),
    "tuples to no bottom": (b")" + b"\x85" * 50_000 + b".", "holds of type tuple"),
    "tuples to no bottom as a key": (b"})" + b"\x85" * 50_000 + b"Ns.", "neither text nor an integer"),
    "a billion laughs": (b")" + b"q\x00h\x00\x86" * 1000 + b".", "holds of type tuple"),
    "a list in itself": (b"]q\x00h\x00a.", "holds of type list"),
}


def in_a_zip(folder: Path, pickled: bytes) -> None:
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("model/data.pkl", pickled)


def in_a_stream(folder: Path, pickled: bytes, place: int = 3) -> None:
    parts: list[object] = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, []]
    pickles = [pickle.dumps(part, 2) for part in parts]
    pickles[place] = pickled
    (folder / "pytorch_model.bin").write_bytes(b"".join(pickles))


def failure_of(folder: Path) -> Failure:
    with pytest.raises(Failure) as caught:
        open_checkpoint(folder)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1000
    return caught.value


@pytest.fixture
def nest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "canary_module.py").write_text(CANARY_MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "canary_module", raising=False)
    return tmp_path


@pytest.fixture
def extension_of_os_system() -> object:
    copyreg.add_extension(os.system.__module__, "system", 0xF0)
    yield
    copyreg.remove_extension(os.system.__module__, "system", 0xF0)


@pytest.mark.usefixtures("extension_of_os_system")
@pytest.mark.parametrize("payload", LIVE)
def test_a_payload_that_runs_elsewhere_does_not_run_here(nest: Path, payload: str) -> None:
    pickled, sentence = LIVE[payload]
    canary = nest / "canary"
    # The control: this payload is live. Some fail after they have sung.
    with suppress(TypeError, AttributeError, pickle.UnpicklingError):
        pickle.loads(pickled)  # noqa: S301
    assert canary.exists()
    canary.unlink()
    sys.modules.pop("canary_module", None)
    for wrap in (in_a_zip, in_a_stream):
        wrap(nest, b"\x80\x02" + pickled if wrap is in_a_stream else pickled)
        failure = failure_of(nest)
        assert sentence.partition(" at byte")[0] in failure.message
        assert wrap is in_a_stream or sentence in failure.message
        assert "nothing was executed" in failure.hint
        assert not canary.exists()
        assert "canary_module" not in sys.modules


@pytest.mark.parametrize("place", range(5))
def test_a_payload_in_any_pickle_of_a_stream(nest: Path, place: int) -> None:
    in_a_stream(nest, b"\x80\x02" + SYSTEM + b".", place)
    assert "names os.system" in failure_of(nest).message
    assert not (nest / "canary").exists()


class Bait:
    """What torch.save itself pickles when an object asks for it."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch canary",)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_payload_that_torch_saved(nest: Path, is_zip: bool) -> None:  # noqa: FBT001  (a parameter of the test)
    content = {"w": torch.ones(2), "x": {"deep": [Bait()]}}
    torch.save(content, nest / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
    assert f"names {os.system.__module__}.system" in failure_of(nest).message
    assert not (nest / "canary").exists()


@pytest.mark.parametrize("fault", DEAD)
def test_malformed_and_outsized_pickles_are_refused_in_little_memory(tmp_path: Path, fault: str) -> None:
    pickled, sentence = DEAD[fault]
    in_a_zip(tmp_path, pickled)
    tracemalloc.start()
    try:
        failure = failure_of(tmp_path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sentence in failure.message
    assert peak_bytes < 64 * 2**20


def test_a_pickle_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_machine, "_MAX_OPCODES", 1000)
    in_a_zip(tmp_path, b"}" + b"\x94" * 1000 + b".")
    assert "more than 1000 opcodes (MEMOIZE" in failure_of(tmp_path).message
