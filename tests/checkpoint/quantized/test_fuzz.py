"""Whatever is wrong with the parts of a quantized checkpoint or with its config: it is read, or refused."""

from __future__ import annotations

import copy
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import torch

from convert.checkpoint import open_checkpoint
from convert.errors import Failure
from tests.checkpoint.quantized.test_damage import SOUND
from tests.checkpoint.quantized.widening import save

if TYPE_CHECKING:
    from pathlib import Path

DTYPES = (
    *(torch.float32, torch.bfloat16, torch.float8_e4m3fn),
    *(torch.int32, torch.int64, torch.int8, torch.uint8),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 3, 16, 10**12, 0.5),
    *("", "group", "x", [], [1, 1], [0], {}, {"a": 1}),
)
MANY = pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])


def damaged_tensors(tensors: dict[str, torch.Tensor], noise: Random) -> None:
    name = noise.choice(sorted(tensors))
    match noise.randrange(5):
        case 0:
            del tensors[name]
        case 1:
            size = [noise.choice((0, 1, 2, 3, 8, 16, 64)) for _ in range(noise.randrange(5))]
            tensors[name] = torch.ones(size).to(tensors[name].dtype)
        case 2:
            tensors[name] = tensors[name].float().to(noise.choice(DTYPES))
        case 3:
            tensors[name + noise.choice(("_scale", "_2", "_inv", "_zero_point", ""))] = torch.ones(2, 2)
        case _:
            flat = tensors[name].reshape(-1).clone()
            for _ in range(noise.randrange(1, 4)):
                flat.view(torch.uint8)[noise.randrange(flat.nbytes)] = noise.randrange(256)
            tensors[name] = flat.reshape(tensors[name].shape)


def damaged_config(section: Any, noise: Random) -> None:
    while isinstance(section, dict) and section:
        key = noise.choice(sorted(section))
        if not isinstance(section[key], dict) or noise.random() < 0.2:
            section[key] = noise.choice(VALUES)
            return
        section = section[key]


def outcome(folder: Path) -> str:
    try:
        with open_checkpoint(folder) as checkpoint:
            for name, info in checkpoint.tensors.items():
                if info.stored_as is None:
                    continue
                for index in range(info.shape[0]) if len(info.shape) == 3 else (None,):
                    for is_transposed in (False, True):
                        rows = info.shape[-1 if is_transposed else -2]
                        found = checkpoint.rows(name, 0, rows, index=index, is_transposed=is_transposed)
                        assert found.shape == (rows, info.shape[-2 if is_transposed else -1])
                        checkpoint.release_rows(name, 0, rows, index=index, is_transposed=is_transposed)
    except Failure as failure:
        return "refused" if failure.message.isprintable() and failure.hint else failure.message
    return "read"


@MANY
@pytest.mark.parametrize("kind", SOUND)
def test_it_is_read_or_refused(tmp_path: Path, kind: str, count: int) -> None:
    noise = Random(5)
    section, make = SOUND[kind]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(count):
        changed, tensors = copy.deepcopy(section), make()
        if noise.random() < 0.3:
            damaged_config(changed, noise)
        else:
            damaged_tensors(tensors, noise)
        outcomes[outcome(save(tmp_path, changed, tensors))] += 1
    assert min(outcomes.values())
