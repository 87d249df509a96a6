"""How much each column of a matrix matters to a quant: read from llama.cpp's files, or learned from text."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.calibration import Windows
from convert.errors import Failure, UsageFailure
from convert.formats.gguf.imatrix_file import ImatrixFile, Sum, imatrix_bytes, read_imatrix
from convert.formats.gguf.mixture import UNQUANTIZED
from convert.formats.gguf.options import GgufOptions
from convert.formats.gguf.tensors import file_tensors
from convert.learning import learn_squares
from convert.learning.batch import cut, work_bytes
from convert.learning.layer_file import Learned
from convert.model.arrange import TileColumns
from convert.model.decoder import Decoder, Ref, Role
from convert.model.source import Model, Weights
from convert.progress import Progress
from convert.recipe import Recipe

# What a matrix that is computed here is called where llama-quantize names the file.
COMPUTED_NAME = "imatrix.gguf"
# llama-imatrix leaves these out, and llama-quantize does without.
NEVER_COLLECTED = ("token_embd.weight", "output.weight")
# What a dataset's name loses: where it lay on the machine of whoever made the matrix is nobody's business.
ABSOLUTE_FOLDER = r"^([/\\~]|[A-Za-z]:).*[/\\]"


@dataclass(frozen=True)
class Importance:
    """Mean squares of what each matrix is multiplied with, a float32 a column, by its name in GGUF."""

    values: Mapping[str, NDArray[np.float32]] = field(repr=False)
    datasets: tuple[str, ...]
    chunk_count: int
    file_name: str
    chunk_size: int = 0  # tokens in each chunk, 0 where the file does not say
    sums: Mapping[str, Sum] = field(default_factory=dict, repr=False)  # where the values come from
    unseen: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # experts that no text reached
    missing: tuple[str, ...] = ()  # matrices of the model that it says nothing of
    learned: Mapping[str, str | int] = field(default_factory=dict)  # from which windows, where it was here


def find_importance(
    model: Model, options: GgufOptions, recipe: Recipe, weights: Weights, progress: Progress
) -> Importance:
    """Read the importance matrix that a recipe names, or learn one from its calibration text."""
    decoder = model.decoder
    if options.imatrix_file is not None:
        return fit(read_importance(recipe.locate(options.imatrix_file)), decoder)
    if recipe.calibration is None:
        raise UsageFailure(
            "targets.gguf.imatrix: calibration, and the recipe has no calibration text",
            "add e.g. calibration: {packs: [searchqa, lessonpack]}",
        )
    if weights.lessons is None:
        raise ValueError("no folder to keep in what is learned")
    windows = cut(model, recipe, recipe.calibration, progress)
    with progress.stage("importance matrix", work_bytes(decoder, windows)) as advance:
        return compute_importance(decoder, weights, windows, weights.lessons, advance=advance)


def read_importance(path: Path) -> Importance:
    """Read either of llama.cpp's forms into the values that llama-quantize would hand to its kernels."""
    return _from_sums(read_imatrix(path), str(path), path.name)


def fit(importance: Importance, decoder: Decoder) -> Importance:
    """Check a matrix against the model that it is for, and name what it says nothing of."""
    columns = _columns(decoder)
    strangers = [
        name
        for name in importance.values
        if (layer := re.match(r"blk\.(\d+)\.", name)) and int(layer[1]) >= decoder.layer_count
    ]
    if strangers or not importance.values.keys() & columns.keys():
        what = (
            f"{strangers[0]} is in none of the model's {decoder.layer_count} layers"
            if strangers
            else "none of its entries is a matrix of this model"
        )
        raise Failure(f"{importance.file_name}: {what}", "it was made from another model")
    kept = dict(importance.values)
    for name, values in importance.values.items():
        if name not in columns or values.size == columns[name]:
            continue
        if name != "token_embd.weight":
            raise Failure(
                f"{importance.file_name}: {name} has {values.size} values, "
                f"and the model's has {columns[name]} columns",
                "it was made from another model",
            )
        # llama-quantize does without it then, here as there.
        del kept[name]
    kept_whole = (*UNQUANTIZED, "_norm.weight")
    quantized = (name for name in columns if not any(part in name for part in kept_whole))
    missing = tuple(name for name in quantized if name not in kept and name not in NEVER_COLLECTED)
    return replace(importance, values=kept, missing=missing)


def compute_importance(
    decoder: Decoder,
    weights: Weights,
    windows: Windows,
    folder: Path,
    *,
    advance: Callable[[int], None] = lambda _bytes: None,
    threads: int | None = None,
) -> Importance:
    """Add up the squares of what each matrix of a layer meets on the windows' way through the model.

    What is learned on it is kept in `folder`, and may be there already.
    """
    learned = learn_squares(decoder, weights, windows, folder, advance=advance, threads=threads)
    content = ImatrixFile(_sums(decoder, learned), (windows.source,), len(windows.tokens), windows.length)
    found = _from_sums(content, windows.source, COMPUTED_NAME)
    return replace(found, learned=windows.record())


def pack_importance(importance: Importance) -> bytes:
    """Pack a matrix in llama.cpp's GGUF form; read back, it gives the same values."""
    sums = {
        name: importance.sums.get(name) or Sum(values, (1,)) for name, values in importance.values.items()
    }
    return imatrix_bytes(
        ImatrixFile(sums, importance.datasets, importance.chunk_count, importance.chunk_size)
    )


def write_importance(importance: Importance, path: Path) -> None:
    """Write a matrix in llama.cpp's GGUF form."""
    path.write_bytes(pack_importance(importance))


def _from_sums(content: ImatrixFile, where: str, file_name: str) -> Importance:
    values = {name: summed.mean() for name, summed in content.sums.items()}
    for name, mean in values.items():
        if not np.isfinite(mean).all():
            raise Failure(
                f"{where}: the importance of {name} holds a value that is infinite or not a number",
                "make it from sound weights: llama-quantize refuses such a matrix too",
            )
    datasets = tuple(re.sub(ABSOLUTE_FOLDER, "", name) for name in content.datasets)
    unseen = {name: summed.unseen for name, summed in content.sums.items() if summed.unseen}
    return Importance(
        values, datasets, content.chunk_count, file_name, content.chunk_size, content.sums, unseen
    )


def _columns(decoder: Decoder) -> dict[str, int]:
    """Name the matrices that an importance matrix may speak of, with the columns of all their experts."""
    return {
        tensor.name: math.prod(tensor.shape[-1:] + tensor.shape[:-2])
        for tensor in file_tensors(decoder)
        if tensor.is_matrix and tensor.name.endswith("weight")
    }


def _sums(decoder: Decoder, learned: Iterable[Learned]) -> dict[str, Sum]:
    """Gather by the file's names: several matrices may be one tensor there, and are counted once.

    Stacked experts are counted one by one.
    """
    squares: dict[str, NDArray[np.float32]] = {}
    counts: dict[str, NDArray[np.int64]] = {}
    columns: dict[str, TileColumns] = {}  # of files that have them in another order
    places: dict[Ref, tuple[str, int]] = {}
    parted: set[str] = set()  # by heads, all of which see every token: they are counted once
    for tensor in file_tensors(decoder):
        if not tensor.name.startswith("blk.") or not tensor.pieces:
            continue
        first = tensor.pieces[0].ref
        # The one row of a shared expert's gate is no matrix in the file, and multiplied like one.
        if not tensor.is_matrix and first.role is not Role.SHARED_ROUTER:
            continue
        firsts = [first]
        if first.role is Role.LATENT_KV_UP:
            role = Role.LATENT_K_UP if tensor.pieces[0].is_turned else Role.LATENT_V_UP
            firsts = [Ref(role, first.layer, expert=head) for head in range(tensor.shape[0])]
            parted.add(tensor.name)
        elif first.expert is not None:
            firsts = [piece.ref for piece in tensor.pieces if piece.ref.role == first.role]
        for ref in firsts:
            places[ref] = tensor.name, ref.expert or 0
        if isinstance(arrange := tensor.pieces[0].arrange, TileColumns):
            columns[tensor.name] = arrange
        squares[tensor.name] = np.zeros((len(firsts), tensor.shape[-1]), np.float32)
        counts[tensor.name] = np.zeros(len(firsts), np.int64)
    for each in learned:
        for name, expert in (places[ref] for ref in each.refs if ref in places):
            arranged = columns.get(name)
            squares[name][expert] += each.squares if arranged is None else arranged(each.squares[None])[0]
            counts[name][expert] += each.token_count
    return {
        name: Sum(
            squares[name].ravel(),
            tuple(map(int, counted[:1] if name in parted else counted)),
        )
        for name, counted in sorted(counts.items())
        if counted.any()
    }
