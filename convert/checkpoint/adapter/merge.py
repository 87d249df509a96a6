"""A checkpoint with an adapter merged into it: each tensor of the adapter's finds the one that it changes."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from convert.checkpoint.adapter.file import ANOTHER, Adapter, Pair, misfit
from convert.checkpoint.adapter.matrix import (
    Factor,
    LowRank,
    Matrix,
    Patched,
    Recent,
    Rescaled,
    Rows,
    Shifted,
    Stored,
)
from convert.checkpoint.adapter.names import Names
from convert.checkpoint.adapter.tied import Tied, copies_of_tied, is_untying
from convert.checkpoint.reader import Checkpoint
from convert.checkpoint.tensor import TensorInfo
from convert.errors import Failure, shown


@dataclass(frozen=True)
class Stack:
    """A parameter that Transformers makes of many tensors: of each expert some, one after the other."""

    module: str
    parameter: str
    experts: tuple[tuple[str, ...], ...]


class AdaptedCheckpoint(Checkpoint):
    """A checkpoint whose rows have an adapter's changes in them."""

    is_stored = False

    def __init__(
        self,
        base: Checkpoint,
        adapter: Adapter,
        *,
        tensors: Mapping[str, TensorInfo],
        matrices: Mapping[str, Matrix],
        sources: Mapping[str, Sequence[str]],
        untied: Tied | None,
    ) -> None:
        super().__init__(base.folder, {}, tensors.values())
        self._base, self._adapter = base, adapter
        self._matrices, self._sources = matrices, sources
        self._untied = untied

    @property
    def changed(self) -> frozenset[str]:
        """Name the tensors that the adapter changes."""
        return frozenset(self._matrices)

    def rows(
        self, name: str, start: int, stop: int, *, index: int | None = None, is_transposed: bool = False
    ) -> Rows:
        """Read some rows of the base, and change them."""
        matrix = self._matrices.get(name) or Stored(self._base, name)
        return matrix.rows(start, stop, index=index, is_transposed=is_transposed)

    def release_rows(
        self, name: str, start: int, stop: int, *, index: int | None = None, is_transposed: bool = False
    ) -> None:
        """Release the base's pages, and with a tensor's last row the adapter's."""
        stored = self._untied.embed if self._untied and name == self._untied.head else name
        self._base.release_rows(stored, start, stop, index=index, is_transposed=is_transposed)
        shape = self.tensors[name].shape[index is not None :]
        if shape and stop == shape[-1 if is_transposed else 0]:
            for source in self._sources.get(name, ()):
                self._adapter.weights.release(source)

    def close(self) -> None:
        """Close the files of both."""
        self._base.close()
        self._adapter.close()


def adapt(
    base: Checkpoint,
    adapter: Adapter,
    *,
    is_transposed: Callable[[str], bool],
    names: Names | None = None,
    tied: Tied | None = None,
    stacks: Iterable[Stack] = (),
) -> AdaptedCheckpoint:
    """Find the tensor that each of the adapter's changes; refuse one that does not fit.

    `is_transposed` says which of the base's are stored (in, out). Of a tied pair, embedding and head are two
    tensors afterwards if the adapter trained either apart.
    """
    merge = _Merge(base, adapter, is_transposed, names or Names(), tuple(stacks), dict(base.tensors))
    copies: frozenset[str] = frozenset()
    untied = tied if tied and is_untying(adapter, tied, merge.names) else None
    if untied:
        merge.untie(untied)
    elif tied:
        copies = copies_of_tied(adapter, tied, merge.names)
    for name, info in adapter.whole.items():
        if info.name not in copies:
            merge.replace_whole(name, info)
    for pair in sorted(adapter.pairs, key=lambda each: -each.depth):
        if pair.a.name not in copies:
            merge.add_pair(pair)
    for module, info in adapter.tokens.items():
        merge.patch_tokens(module, info)
    return AdaptedCheckpoint(
        base,
        adapter,
        tensors=merge.tensors,
        matrices=merge.matrices,
        sources=dict(merge.sources),
        untied=untied,
    )


@dataclass
class _Merge:
    base: Checkpoint
    adapter: Adapter
    is_transposed: Callable[[str], bool]
    names: Names
    stacks: tuple[Stack, ...]
    tensors: dict[str, TensorInfo]
    matrices: dict[str, Matrix] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    recent: Recent = field(default_factory=Recent)

    def __post_init__(self) -> None:
        self._by_core = self.names.by_core(self.tensors)

    def untie(self, tied: Tied) -> None:
        if self.adapter.tokens:
            what = f"{self.adapter.file}: trains single tokens, and embedding or head apart from the other"
            raise Failure(what, "merge it with PEFT and save the whole model")
        self.tensors[tied.head] = replace(self.tensors[tied.embed], name=tied.head)
        self.matrices[tied.head] = Stored(self.base, tied.embed)
        self._by_core = self.names.by_core(self.tensors)

    def replace_whole(self, name: str, info: TensorInfo) -> None:
        target = self._find(name, info)
        wanted = self.tensors[target].shape
        if info.shape != wanted:
            hint = ANOTHER
            if len(wanted) == 2 and info.shape[1:] == wanted[1:]:
                hint = "its vocabulary has another size: merge it with PEFT and save the whole model"
            raise misfit(info, f"{_by(info.shape)}, and {target} is {_by(wanted)}", hint)
        self._set(target, Stored(self.adapter.weights, info.name), info)

    def add_pair(self, pair: Pair) -> None:
        if (stack := self._stack(pair)) is not None:
            self._add_to_stack(pair, stack)
            return
        target = self._target(pair)
        shape = self.tensors[target].shape
        is_turned = pair.is_embedding or self.is_transposed(target)
        ins, outs = pair.a.shape[1], pair.b.shape[0]
        if shape[-2:] != ((ins, outs) if is_turned else (outs, ins)) or len(shape) > 3:
            raise misfit(pair.a, f"{_product(pair)}, and {target} is {_by(shape)}", ANOTHER)
        path = target.removesuffix(".weight").rpartition(".")[2]
        name = f"{pair.module}.{path}" if len(shape) == 3 else pair.module
        count = shape[0] if len(shape) == 3 else 1
        scale = self._scale(pair, name, count)
        a = Factor(self.adapter.weights, pair.a.name, ins, has_rank_first=True, count=count)
        b = Factor(self.adapter.weights, pair.b.name, outs, has_rank_first=False, count=count)
        left, right = (a, b) if is_turned else (b, a)
        matrix: Matrix = LowRank(self._now(target), left, right, scale, self.recent)
        if pair.magnitude is not None and self.adapter.config.is_dora:
            matrix = self._rescaled(pair, pair.magnitude, matrix, target)
        self._set(target, matrix, pair.a, pair.b, *filter(None, [pair.magnitude]))
        if pair.bias is not None:
            vector = self._find(f"{pair.module}.bias", pair.bias)
            if pair.bias.shape != self.tensors[vector].shape:
                found = f"{_by(pair.bias.shape)}, and {vector} is {_by(self.tensors[vector].shape)}"
                raise misfit(pair.bias, found, ANOTHER)
            shift = Stored(self.adapter.weights, pair.bias.name)
            self._set(vector, Shifted(self._now(vector), shift, scale), pair.bias)

    def _add_to_stack(self, pair: Pair, stack: Stack) -> None:
        weights, count = self.adapter.weights, len(stack.experts)
        scale = self._scale(pair, f"{pair.module}.{stack.parameter}", count)
        for expert, members in enumerate(stack.experts):
            row, where = 0, {"count": count, "element": expert}
            right = Factor(weights, pair.a.name, pair.a.shape[1], has_rank_first=True, **where)
            for name in members:
                rows = self.tensors[name].shape[0]
                left = Factor(weights, pair.b.name, rows, has_rank_first=False, first_row=row, **where)
                self._set(name, LowRank(self._now(name), left, right, scale, self.recent), pair.a, pair.b)
                row += rows

    def _stack(self, pair: Pair) -> Stack | None:
        """Find the stack that a pair fits; its shapes differ from those of the module's other."""
        core = self.names.core(pair.module)
        for stack in self.stacks:
            if self.names.core(stack.module) == core and all(
                name in self.tensors for name in stack.experts[0]
            ):
                shapes = [self.tensors[name].shape for name in stack.experts[0]]
                fits = sum(rows for rows, _ in shapes) == pair.b.shape[0]
                if fits and all(columns == pair.a.shape[1] for _, columns in shapes):
                    return stack
        return None

    def patch_tokens(self, module: str, info: TensorInfo) -> None:
        target = self._find(f"{module}.weight", info)
        places, shape = self.adapter.config.tokens_of(module), self.tensors[target].shape
        if info.shape != (len(places), *shape[1:]) or any(place >= shape[0] for place in places):
            found = f"{_by(info.shape)}, for {len(places)} tokens, and {target} is {_by(shape)}"
            raise misfit(info, found, ANOTHER)
        patch = Stored(self.adapter.weights, info.name)
        self._set(target, Patched(self._now(target), patch, places), info)

    def _rescaled(self, pair: Pair, magnitude: TensorInfo, matrix: Matrix, target: str) -> Rescaled:
        shape = self.tensors[target].shape
        axis = 1 if pair.is_embedding or self.is_transposed(target) else 0
        if len(shape) != 2 or magnitude.shape != (shape[axis],):
            raise misfit(magnitude, f"{_by(magnitude.shape)}, and {target} is {_by(shape)}", ANOTHER)

        def release(start: int, stop: int) -> None:
            if target in self.base.tensors:
                self.base.release_rows(target, start, stop)

        lengths = Stored(self.adapter.weights, magnitude.name)
        where = f"{self.adapter.file}: {shown(magnitude.name)}"
        return Rescaled(matrix, lengths, (shape[0], shape[1]), axis, where, release)

    def _scale(self, pair: Pair, name: str, count: int) -> float:
        """Compute the factor of a pair's product; its rank is what adapter_config.json says."""
        rank, rest = divmod(pair.a.shape[0], count)
        if rest or pair.b.shape[1] != pair.a.shape[0]:
            raise misfit(pair.a, f"{_product(pair)}, of {count}", ANOTHER)
        expected = self.adapter.config.rank_of(name)
        if rank != expected:
            found = f"of rank {rank}, and adapter_config.json says {expected}"
            raise misfit(pair.a, found, "the two files are of different adapters: fetch both again")
        return self.adapter.config.scale_of(name, rank)

    def _target(self, pair: Pair) -> str:
        """Find the weight of a pair's module, or the stacked parameter that it fits."""
        if not pair.depth and (found := self._found(f"{pair.module}.weight")):
            return found
        fitting = [name for name in self._parameters(pair.module) if self._fits(pair, name)]
        if len(fitting) == 1:
            return fitting[0]
        return self._find(f"{pair.module}.weight", pair.a)

    def _fits(self, pair: Pair, name: str) -> bool:
        shape, wanted = self.tensors[name].shape, (pair.a.shape[1], pair.b.shape[0])
        return len(shape) == 3 and wanted == (shape[1:] if self.is_transposed(name) else shape[:0:-1])

    def _parameters(self, module: str) -> Iterator[str]:
        core = self.names.core(f"{module}.weight").removesuffix("weight")
        for key, found in self._by_core.items():
            if key.startswith(core) and "." not in key.removeprefix(core) and len(found) == 1:
                yield found[0]

    def _find(self, name: str, info: TensorInfo) -> str:
        if found := self._found(name):
            return found
        what = f"{self.adapter.file}: {shown(info.name)} belongs to {shown(name)}, which the model has not"
        raise Failure(what, ANOTHER)

    def _found(self, name: str) -> str | None:
        if name in self.tensors:
            return name
        found = self._by_core.get(self.names.core(name), [])
        if len(found) > 1:
            what = f"{self.adapter.file}: {shown(name)} may be {shown(' or '.join(found))}"
            raise Failure(what, "merge it with PEFT and save the whole model")
        return found[0] if found else None

    def _now(self, name: str) -> Matrix:
        return self.matrices.get(name) or Stored(self.base, name)

    def _set(self, name: str, matrix: Matrix, *infos: TensorInfo) -> None:
        self.matrices[name] = matrix
        self.sources[name] += [info.name for info in infos]


def _product(pair: Pair) -> str:
    return f"{_by(pair.b.shape)} times {_by(pair.a.shape)}"


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape) or "a scalar"
