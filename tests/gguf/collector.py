"""What llama-imatrix collects, collected through llama.cpp's own evaluation callback."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llama_cpp
import numpy as np

from tests.gguf import oracle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

F32 = 0  # GGML_TYPE_F32
NO_FLASH_ATTENTION = 0  # LLAMA_FLASH_ATTN_TYPE_DISABLED
MIN_TOKENS = 16  # llama-imatrix passes over smaller batches


class GgmlTensor(ctypes.Structure):
    """ggml.h's struct ggml_tensor."""


GgmlTensor._fields_ = (
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(GgmlTensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
)


def collect(path: Path, texts: Sequence[NDArray[np.int32]]) -> dict[str, NDArray[np.float64]]:
    """Add up the squares of what the matrices of a file's layers are multiplied with, over some texts."""
    oracle.silence()
    library = ctypes.CDLL(str(next((Path(llama_cpp.__file__).parent / "lib").glob("*ggml-base.*"))))
    library.ggml_op_name.restype = ctypes.c_char_p
    sums: dict[str, Any] = {}

    @llama_cpp.ggml_backend_sched_eval_callback  # type: ignore[untyped-decorator]
    def observe(address: int, is_question: bool, _: Any) -> bool:  # noqa: FBT001 - called by ggml
        node = ctypes.cast(address, ctypes.POINTER(GgmlTensor)).contents
        # By its name: the numbers of operations change from version to version.
        operation = library.ggml_op_name(node.op)
        if operation == b"MUL_MAT_ID":
            if not is_question:
                name, more = node.src[0].contents.name.decode(), _squares_of_experts(node)
                sums[name] = sums.get(name, 0) + more
            return True
        if operation != b"MUL_MAT":
            return False
        name, rows = node.src[0].contents.name.decode(), node.src[1].contents
        if not name.startswith("blk.") or rows.type != F32 or rows.ne[1] < MIN_TOKENS:
            return False
        if not is_question:
            sums[name] = sums.get(name, 0) + _squares(rows)
        return True

    with _context(path, max(map(len, texts)), observe) as context:
        for text in texts:
            _decode(context, text)
    return sums


def _squares(rows: GgmlTensor) -> NDArray[np.float64]:
    """Add up by column, those of one head after those of the other."""
    columns, count, heads, one = rows.ne
    assert one == 1
    assert rows.nb[0] == 4
    last = (heads - 1) * rows.nb[2] + (count - 1) * rows.nb[1] + 4 * columns
    raw = np.frombuffer((ctypes.c_char * last).from_address(rows.data), np.uint8)
    values = np.lib.stride_tricks.as_strided(
        raw.view(np.float32), (heads, count, columns), (rows.nb[2], rows.nb[1], 4)
    )
    squares: NDArray[np.float64] = (values.astype(np.float64) ** 2).sum(axis=1).ravel()
    return squares


def _squares_of_experts(node: GgmlTensor) -> NDArray[np.float64]:
    """Add up by expert; a last column counts the tokens of each."""
    weights, rows, chosen = (node.src[number].contents for number in range(3))
    columns, copies, tokens = rows.ne[:3]
    used, experts = chosen.ne[0], weights.ne[2]
    sums = np.zeros((experts, columns + 1))
    for token, slot in np.ndindex(tokens, used):
        place = chosen.data + token * chosen.nb[1] + slot * chosen.nb[0]
        expert = ctypes.c_int32.from_address(place).value
        at = rows.data + token * rows.nb[2] + slot % copies * rows.nb[1]
        values = np.frombuffer((ctypes.c_float * columns).from_address(at), np.float32)
        sums[expert, :-1] += values.astype(np.float64) ** 2
        sums[expert, -1] += 1
    return sums


def _decode(context: Any, text: NDArray[np.int32]) -> None:
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)  # noqa: FBT003
    batch = llama_cpp.llama_batch_init(len(text), 0, 1)
    batch.n_tokens = len(text)
    for position, token in enumerate(text):
        batch.token[position], batch.pos[position] = int(token), position
        batch.n_seq_id[position], batch.seq_id[position][0] = 1, 0
        batch.logits[position] = True  # or the last layer would compute the last token alone
    status = llama_cpp.llama_decode(context, batch)
    llama_cpp.llama_batch_free(batch)
    assert status == 0


@contextmanager
def _context(path: Path, length: int, observe: Any) -> Iterator[Any]:
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = length
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = F32
    params.flash_attn_type = NO_FLASH_ATTENTION
    params.cb_eval = observe
    context = llama_cpp.llama_init_from_model(model, params)
    try:
        yield context
    finally:
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)
