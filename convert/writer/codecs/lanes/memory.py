"""Lanes in arrays: a number of each lane in turn, or 16 neighbors of each lane from where it starts."""

from typing import Any

from llvmlite import ir
from numba.core import types

from convert.writer.codecs.lanes.vector import FLOAT, FLOATS, INT, INTS, WIDTH, primitive

INDEX, BYTE = ir.IntType(64), ir.IntType(8)
SIDE = 16  # of the squares that are turned around in registers
SQUARE = ir.VectorType(FLOAT, SIDE)


def _address(
    context: Any, builder: Any, array_type: Any, array: Any, index: ir.Value, to: ir.Type
) -> ir.Value:
    """Point at an element of an array that is contiguous, whatever its number of dimensions."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), to.as_pointer())


@primitive
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Read a number for each lane."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, index = args
        return builder.load(_address(context, builder, sig.args[0], array, index, FLOATS.vector), align=4)

    return FLOATS(array, types.intp), emit


@primitive
def load_ints(typingctx: Any, array: Any, index: Any) -> Any:
    """Read integers that were stored among floats."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, index = args
        return builder.load(_address(context, builder, sig.args[0], array, index, INTS.vector), align=4)

    return INTS(array, types.intp), emit


@primitive
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a number of each lane; integers are written as they are, not as the floats that they equal."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, index, lanes = args
        builder.store(lanes, _address(context, builder, sig.args[0], array, index, lanes.type), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), emit


def _transpose(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Turn 16 vectors of 16 around, by swapping squares of 8, 4, 2 and 1."""
    indices = ir.VectorType(INT, SIDE)
    for step in (8, 4, 2, 1):
        upper = ir.Constant(indices, [SIDE + c - step if c & step else c for c in range(SIDE)])
        lower = ir.Constant(indices, [SIDE + c if c & step else c + step for c in range(SIDE)])
        for row in range(SIDE):
            if not row & step:
                pair = rows[row], rows[row + step]
                rows[row] = builder.shuffle_vector(*pair, upper)
                rows[row + step] = builder.shuffle_vector(*pair, lower)
    return rows


def _lane_index(
    context: Any, builder: Any, starts_type: Any, starts: Any, lane: int, offset: Any
) -> ir.Value:
    start = builder.load(_address(context, builder, starts_type, starts, INDEX(lane), INDEX))
    return builder.add(start, offset)


@primitive
def gather_tile(typingctx: Any, tile: Any, at: Any, source: Any, starts: Any, offset: Any) -> Any:
    """Read 16 neighbors for each lane, from where it starts, and store them position by position."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        tile, at, source, starts, offset = args
        for first in range(0, WIDTH, SIDE):
            rows = []
            for lane in range(first, first + SIDE):
                index = _lane_index(context, builder, sig.args[3], starts, lane, offset)
                rows.append(
                    builder.load(_address(context, builder, sig.args[2], source, index, SQUARE), align=4)
                )
            for position, row in enumerate(_transpose(builder, rows)):
                index = builder.add(at, INDEX(position * WIDTH + first))
                builder.store(row, _address(context, builder, sig.args[0], tile, index, SQUARE), align=4)
        return context.get_dummy_value()

    return types.void(tile, types.intp, source, starts, types.intp), emit


@primitive
def scatter_tile(typingctx: Any, out: Any, starts: Any, offset: Any, tile: Any, at: Any) -> Any:
    """Write the 64 bytes that each lane has in a tile to where it starts in the output."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        out, starts, offset, tile, at = args
        for first in range(0, WIDTH, SIDE):
            rows = []
            for position in range(SIDE):
                index = builder.add(at, INDEX(position * WIDTH + first))
                rows.append(
                    builder.load(_address(context, builder, sig.args[3], tile, index, SQUARE), align=4)
                )
            for lane, row in enumerate(_transpose(builder, rows)):
                index = _lane_index(context, builder, sig.args[1], starts, first + lane, offset)
                builder.store(row, _address(context, builder, sig.args[0], out, index, SQUARE), align=1)
        return context.get_dummy_value()

    return types.void(out, starts, types.intp, tile, types.intp), emit


def _scatter(bits: int) -> Any:
    """Make a function that writes the low bits of each lane to where it starts in the output."""

    def typing(typingctx: Any, out: Any, starts: Any, offset: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            out, starts, offset, value = args
            narrow = ir.IntType(bits)
            for lane in range(WIDTH):
                number = builder.extract_element(value, INT(lane))
                index = _lane_index(context, builder, sig.args[1], starts, lane, offset)
                address = _address(context, builder, sig.args[0], out, index, narrow)
                builder.store(builder.trunc(number, narrow) if bits < 32 else number, address, align=1)
            return context.get_dummy_value()

        return types.void(out, starts, types.intp, INTS), emit

    return primitive(typing)


scatter_words, scatter_halves, scatter_bytes = _scatter(32), _scatter(16), _scatter(8)


@primitive
def store_bytes(typingctx: Any, out: Any, index: Any, value: Any) -> Any:
    """Write the low byte of each lane, one after the other."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        out, index, value = args
        narrow = builder.trunc(value, ir.VectorType(BYTE, WIDTH))
        builder.store(narrow, _address(context, builder, sig.args[0], out, index, narrow.type), align=1)
        return context.get_dummy_value()

    return types.void(out, types.intp, INTS), emit


@primitive
def store_nibbles(typingctx: Any, out: Any, index: Any, value: Any) -> Any:
    """Write the low four bits of each lane, two lanes a byte, the first below."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        out, index, value = args
        pairs = ir.VectorType(ir.IntType(16), WIDTH // 2)
        both = builder.bitcast(builder.trunc(value, ir.VectorType(BYTE, WIDTH)), pairs)
        four = ir.Constant(pairs, [4] * (WIDTH // 2))
        narrow = builder.trunc(builder.or_(both, builder.lshr(both, four)), ir.VectorType(BYTE, WIDTH // 2))
        builder.store(narrow, _address(context, builder, sig.args[0], out, index, narrow.type), align=1)
        return context.get_dummy_value()

    return types.void(out, types.intp, INTS), emit
