"""Many lanes as one value of numba's: a kernel that is written for one number runs on all of them.

Each operation is one instruction of LLVM on a vector, which it splits into as many registers as that takes.
Nothing may be reordered or fused, so each lane computes what scalar code in C does, and int32 stays int32.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import config, types
from numba.core.typeconv import Conversion
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model
from numpy.typing import NDArray

WIDTH = 32  # two of the longest registers: while one waits for a sum, the other adds
Vector = Any  # mypy knows nothing of lanes
Scratch = NDArray[np.float32]  # rows of WIDTH, one lane each

FLOAT, INT, BIT = ir.FloatType(), ir.IntType(32), ir.IntType(1)


def primitive(typing: Callable[..., Any]) -> Any:
    """Let kernels call a function by the instructions that it gives for the types of its arguments."""
    return intrinsic(typing)


class Lanes(types.Type):
    """Numbers of one kind, one a lane: float32, int32 or truth values."""

    def __init__(self, name: str, element: ir.Type) -> None:
        super().__init__(name=f"lanes of {name}")
        self.vector = ir.VectorType(element, WIDTH)

    def can_convert_from(self, typingctx: Any, other: types.Type) -> Conversion | None:
        """Take a number for as many equal ones."""
        scalar = (types.Float, types.Integer) if self is FLOATS else types.Integer
        return Conversion.safe if self is not MASK and isinstance(other, scalar) else None


FLOATS, INTS, MASK = Lanes("float32", FLOAT), Lanes("int32", INT), Lanes("truth", BIT)


@register_model(Lanes)
class _Model(models.PrimitiveModel):  # type: ignore[misc]  # numba has no types
    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        super().__init__(dmm, fe_type, fe_type.vector)


def _spread(builder: ir.IRBuilder, scalar: ir.Value, vector: ir.VectorType) -> ir.Value:
    """Repeat a number in each lane."""
    if isinstance(scalar, ir.Constant):
        return ir.Constant(vector, [scalar] * WIDTH)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, INT(0))
    zeros = ir.Constant(ir.VectorType(INT, WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def _float_to_lanes(context: Any, builder: Any, fromty: Any, toty: Any, value: Any) -> Any:
    return _spread(builder, context.cast(builder, value, fromty, types.float32), toty.vector)


lower_cast(types.Float, FLOATS)(_float_to_lanes)
lower_cast(types.Integer, FLOATS)(_float_to_lanes)


def _int_to_lanes(context: Any, builder: Any, fromty: Any, toty: Any, value: Any) -> Any:
    return _spread(builder, context.cast(builder, value, fromty, types.int32), toty.vector)


lower_cast(types.Integer, INTS)(_int_to_lanes)


def _define(function: Callable[..., Any], result: Lanes, *operands: Lanes) -> Callable[[Any], Any]:
    """Give an operator of Python's a meaning on lanes; numbers among its operands are repeated."""

    @infer_global(function)
    class _Typing(AbstractTemplate):  # type: ignore[misc]  # numba has no types
        def generic(self, args: tuple[types.Type, ...], kws: Any) -> Any:
            fits = len(args) == len(operands) and any(isinstance(arg, Lanes) for arg in args)
            if not fits:
                return None
            for arg, operand in zip(args, operands, strict=True):
                if arg is not operand and (
                    isinstance(arg, Lanes) or operand.can_convert_from(None, arg) is None
                ):
                    return None
            return signature(result, *operands)

    def register(emit: Callable[..., Any]) -> Callable[..., Any]:
        lower_builtin(function, *operands)(lambda context, builder, sig, args: emit(builder, *args))
        return emit

    return register


for _operator, _method in {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}.items():
    _define(_operator, FLOATS, FLOATS, FLOATS)(lambda b, x, y, name=_method: getattr(b, name)(x, y))
for _operator, _method in {
    operator.add: "add",
    operator.sub: "sub",
    operator.and_: "and_",
    operator.or_: "or_",
    operator.lshift: "shl",
    operator.rshift: "ashr",
}.items():
    _define(_operator, INTS, INTS, INTS)(lambda b, x, y, name=_method: getattr(b, name)(x, y))
for _operator, _method in {operator.and_: "and_", operator.or_: "or_"}.items():
    _define(_operator, MASK, MASK, MASK)(lambda b, x, y, name=_method: getattr(b, name)(x, y))
for _operator, _sign in {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
}.items():
    _define(_operator, MASK, FLOATS, FLOATS)(lambda b, x, y, sign=_sign: b.fcmp_ordered(sign, x, y))
    _define(_operator, MASK, INTS, INTS)(lambda b, x, y, sign=_sign: b.icmp_signed(sign, x, y))
_define(operator.ne, MASK, FLOATS, FLOATS)(lambda b, x, y: b.fcmp_unordered("!=", x, y))
_define(operator.invert, MASK, MASK)(lambda b, x: b.not_(x))
_define(operator.neg, FLOATS, FLOATS)(lambda b, x: b.fneg(x))


def _call(builder: ir.IRBuilder, name: str, *args: ir.Value) -> ir.Value:
    """Call a function of LLVM's own on vectors."""
    vector = args[0].type
    suffix = f"v{WIDTH}{'f32' if vector.element == FLOAT else 'i32'}"
    function = builder.module.declare_intrinsic(
        f"llvm.{name}.{suffix}", (), ir.FunctionType(vector, [arg.type for arg in args])
    )
    return builder.call(function, args)


_define(abs, FLOATS, FLOATS)(lambda b, x: _call(b, "fabs", x))


def _unary(result: Lanes, operand: Lanes, emit: Callable[[ir.IRBuilder, ir.Value], ir.Value]) -> Any:
    """Make a function of one argument that kernels call."""

    def typing(typingctx: Any, value: types.Type) -> Any:
        if value is not operand and (
            isinstance(value, Lanes) or operand.can_convert_from(None, value) is None
        ):
            return None
        return signature(result, operand), lambda context, builder, sig, args: emit(builder, *args)

    return primitive(typing)


floats = _unary(FLOATS, FLOATS, lambda builder, value: value)
ints = _unary(INTS, INTS, lambda builder, value: value)
square_root = _unary(FLOATS, FLOATS, lambda builder, value: _call(builder, "sqrt", value))
# To an integer, ties to even: without such an instruction LLVM would call the C library for each number.
rounded = _unary(FLOATS, FLOATS, lambda builder, value: _call(builder, "rint", value))
HAS_ROUNDED = not config.CPU_NAME and any(get_host_cpu_features().get(name) for name in ("sse4.1", "neon"))
bits_of = _unary(INTS, FLOATS, lambda builder, value: builder.bitcast(value, INTS.vector))
float_of_bits = _unary(FLOATS, INTS, lambda builder, value: builder.bitcast(value, FLOATS.vector))
to_int = _unary(INTS, FLOATS, lambda builder, value: builder.fptosi(value, INTS.vector))
to_float = _unary(FLOATS, INTS, lambda builder, value: builder.sitofp(value, FLOATS.vector))


@primitive
def select(typingctx: Any, mask: Any, yes: Any, no: Any) -> Any:
    """Take the lanes of one value where the mask is set, else those of another."""
    kind = yes if isinstance(yes, Lanes) else no

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(*args)

    return (kind(MASK, kind, kind), emit) if isinstance(kind, Lanes) else None


@primitive
def smaller(typingctx: Any, left: Any, right: Any) -> Any:
    """Take the smaller in each lane, as C's `left < right ? left : right` does."""
    return _pick(left, right, "<")


@primitive
def larger(typingctx: Any, left: Any, right: Any) -> Any:
    """Take the larger in each lane, as C's `left > right ? left : right` does."""
    return _pick(left, right, ">")


def _pick(left: Any, right: Any, sign: str) -> Any:
    kind = left if isinstance(left, Lanes) else right

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        compare = builder.fcmp_ordered if kind is FLOATS else builder.icmp_signed
        return builder.select(compare(sign, *args), *args)

    return kind(kind, kind), emit


@primitive
def any_lane(typingctx: Any, mask: Any) -> Any:
    """Say whether the mask is set in one lane or more."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        number = builder.bitcast(args[0], ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", number, ir.Constant(number.type, 0))

    return types.boolean(MASK), emit


def _fold(sign: str) -> Any:
    """Make a function that finds one number of all lanes: halves are compared until one is left."""

    def typing(typingctx: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            left, count = args[0], WIDTH
            while count > 1:
                count //= 2
                lower, upper = (
                    builder.shuffle_vector(left, left, ir.Constant(ir.VectorType(INT, count), list(half)))
                    for half in (range(count), range(count, 2 * count))
                )
                left = builder.select(builder.fcmp_ordered(sign, lower, upper), lower, upper)
            return builder.extract_element(left, INT(0))

        return types.float32(FLOATS), emit

    return primitive(typing)


least_lane, most_lane = _fold("<"), _fold(">")
