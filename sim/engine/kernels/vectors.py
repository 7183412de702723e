"""Vector building blocks of the engine: loops of 16 lanes whose machine code is certain.

Numba's arrays may overlap for all that LLVM knows, so it guards every short loop over them
and often leaves it scalar. These few operations are therefore written as LLVM vectors; LLVM
lowers them for any processor (one instruction with AVX-512, several elsewhere). All indices
count elements of flat arrays; nothing is checked, so callers keep 64 elements of slack.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from mtspark.sim.engine.layout import LANES, PIXELS

ir: Any = importlib.import_module("llvmlite.ir")

Codegen = Callable[[Any, Any, Any, Any], Any]
SUMS_ARRAY, BYTE_ARRAY = types.Array(types.int32, 1, "C"), types.Array(types.uint8, 1, "C")
INDEX = types.intp
Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function with numba when it is first called; it may run beside Python.

    Division by zero gives what the processor gives; no function here divides by data. References
    to arrays are not counted: the caller holds them all, no function makes an array, and counting
    takes 2 microseconds a population and step.
    """
    wrapped: Function = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, _nrt=False)(
        function
    )
    return wrapped


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Address of element `index` of a flat array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def _load(builder: Any, pointer: Any, element: Any, lanes: int, align: int) -> Any:
    vector = ir.VectorType(element, lanes)
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=align)


def _weights(builder: Any, pointer: Any, widen: Any) -> Any:
    """16 weights of 8 bits, widened to 32."""
    narrow = _load(builder, pointer, ir.IntType(8), LANES, 1)
    return widen(narrow, ir.VectorType(ir.IntType(32), LANES))


def _for_both_signs(builder: Any, unsigned: Any, body: Callable[[Any], None]) -> None:
    """Emit a loop twice, for signed and for unsigned weights, and choose when it runs."""
    zero = ir.Constant(unsigned.type, 0)
    with builder.if_else(builder.icmp_signed("!=", unsigned, zero)) as (then, otherwise):
        with then:
            body(builder.zext)
        with otherwise:
            body(builder.sext)


def _splat(builder: Any, value: Any, lanes: int = LANES) -> Any:
    vector = ir.VectorType(value.type, lanes)
    first = builder.insert_element(
        ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), mask)


def _over_blocks(builder: Any, blocks: Any, body: Callable[[Any], None]) -> None:
    """Emit `body` for each block's offset: four at a time, then one at a time.

    Runs of four and eight vectors are the usual ones; left alone, LLVM unrolls by eight and
    does the rest in a loop.
    """
    kind = blocks.type
    whole = builder.and_(blocks, ir.Constant(kind, -4))

    def emit(first: Any, last: Any, step: int) -> None:
        with cgutils.for_range_slice(builder, first, last, ir.Constant(kind, step)) as (index, _):
            for number in range(step):
                block = builder.add(index, ir.Constant(kind, number))
                body(builder.mul(block, ir.Constant(kind, LANES)))

    emit(ir.Constant(kind, 0), whole, 4)
    emit(whole, blocks, 1)


def _adder(rows: int) -> tuple[Any, Codegen]:
    """Signature and code that add `rows` rows of weights to one row of sums."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums, first, weights, unsigned, *starts, blocks = args
        target = _pointer(context, builder, signature.args[0], sums, first)
        kind = signature.args[2]
        sources = [_pointer(context, builder, kind, weights, start) for start in starts]

        def add(widen: Any, offset: Any) -> None:
            here = builder.gep(target, [offset])
            total = _load(builder, here, ir.IntType(32), LANES, 4)
            for source in sources:
                row = _weights(builder, builder.gep(source, [offset]), widen)
                total = builder.add(total, row)
            builder.store(total, builder.bitcast(here, total.type.as_pointer()), align=4)

        _for_both_signs(
            builder, unsigned, lambda widen: _over_blocks(builder, blocks, partial(add, widen))
        )
        return context.get_dummy_value()

    return types.void(SUMS_ARRAY, INDEX, BYTE_ARRAY, *[INDEX] * (rows + 2)), codegen


@intrinsic  # type: ignore[untyped-decorator]
def add1(
    typing: Any, sums: Any, first: Any, weights: Any, unsigned: Any, w0: Any, blocks: Any
) -> Any:
    """sums[first:] += weights[w0:] over `blocks` vectors."""
    return _adder(1)


@intrinsic  # type: ignore[untyped-decorator]
def add2(
    typing: Any, sums: Any, first: Any, weights: Any, unsigned: Any, w0: Any, w1: Any, blocks: Any
) -> Any:
    """Add two rows of weights: sums are loaded and stored once."""
    return _adder(2)


@intrinsic  # type: ignore[untyped-decorator]
def add4(
    typing: Any,
    sums: Any,
    first: Any,
    weights: Any,
    unsigned: Any,
    w0: Any,
    w1: Any,
    w2: Any,
    w3: Any,
    blocks: Any,
) -> Any:
    """Add four rows of weights."""
    return _adder(4)


@intrinsic  # type: ignore[untyped-decorator]
def add_scaled(
    typing: Any,
    sums: Any,
    first: Any,
    weights: Any,
    unsigned: Any,
    w0: Any,
    blocks: Any,
    message: Any,
) -> Any:
    """sums[first:] += weights[w0:] * message over `blocks` vectors."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums_value, first_value, weights_value, unsigned_value, start, count, factor = args
        target = _pointer(context, builder, signature.args[0], sums_value, first_value)
        source = _pointer(context, builder, signature.args[2], weights_value, start)
        scale = _splat(builder, builder.trunc(factor, ir.IntType(32)))

        def add(widen: Any, offset: Any) -> None:
            here = builder.gep(target, [offset])
            row = _weights(builder, builder.gep(source, [offset]), widen)
            total = _load(builder, here, ir.IntType(32), LANES, 4)
            total = builder.add(total, builder.mul(row, scale))
            builder.store(total, builder.bitcast(here, total.type.as_pointer()), align=4)

        _for_both_signs(
            builder, unsigned_value, lambda widen: _over_blocks(builder, count, partial(add, widen))
        )
        return context.get_dummy_value()

    return types.void(SUMS_ARRAY, INDEX, BYTE_ARRAY, INDEX, INDEX, INDEX, INDEX), codegen


@intrinsic  # type: ignore[untyped-decorator]
def nonzero64(typing: Any, messages: Any, first: Any) -> Any:
    """Bit i tells whether messages[first + i], of 8 bits, is not zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = _pointer(context, builder, signature.args[0], *args)
        lanes = _load(builder, where, ir.IntType(8), 64, 1)
        return builder.bitcast(
            builder.icmp_unsigned("!=", lanes, ir.Constant(lanes.type, None)), ir.IntType(64)
        )

    return types.uint64(messages, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def load64(typing: Any, entries: Any, first: Any) -> Any:
    """The 64 bits that begin with byte `first`, lowest first."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = _pointer(context, builder, signature.args[0], *args)
        word = ir.IntType(64)
        return builder.load(builder.bitcast(where, word.as_pointer()), align=1)

    return types.uint64(entries, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def lowest_bit(typing: Any, word: Any) -> Any:
    """Index of the lowest set bit of a word; 64 where none is set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def set_bits(typing: Any, word: Any) -> Any:
    """How many bits of a word are set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


def _make_gather(vectors: int) -> Any:
    """Code that adds listed rows of weights to `vectors` vectors of sums, kept in registers."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums, first, weights, unsigned, base, stride, rows, count = args
        kinds, index = signature.args, first.type
        target = _pointer(context, builder, kinds[0], sums, first)
        source = _pointer(context, builder, kinds[2], weights, base)
        listed = _pointer(context, builder, kinds[6], rows, ir.Constant(index, 0))
        offsets = [ir.Constant(index, LANES * number) for number in range(vectors)]
        places = [builder.gep(target, [offset]) for offset in offsets]
        totals = [_load(builder, place, ir.IntType(32), LANES, 4) for place in places]
        slots = [cgutils.alloca_once_value(builder, total) for total in totals]

        def body(widen: Any) -> None:
            with cgutils.for_range(builder, count) as loop:
                number = builder.load(builder.gep(listed, [loop.index]))
                at = builder.mul(builder.sext(number, index), stride)
                here = builder.gep(source, [at])
                for slot, offset in zip(slots, offsets, strict=True):
                    row = _weights(builder, builder.gep(here, [offset]), widen)
                    builder.store(builder.add(builder.load(slot), row), slot)

        _for_both_signs(builder, unsigned, body)
        for slot, place in zip(slots, places, strict=True):
            total = builder.load(slot)
            builder.store(total, builder.bitcast(place, total.type.as_pointer()), align=4)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def gather(
        typing: Any,
        sums: Any,
        first: Any,
        weights: Any,
        unsigned: Any,
        base: Any,
        stride: Any,
        rows: Any,
        count: Any,
    ) -> Any:
        """sums[first:] += weights[base + stride * r:], over the first `count` rows r."""
        return types.void(
            SUMS_ARRAY, INDEX, BYTE_ARRAY, INDEX, INDEX, INDEX, SUMS_ARRAY, INDEX
        ), codegen

    return gather


gather1, gather2, gather4 = (_make_gather(vectors) for vectors in (1, 2, 4))


@intrinsic  # type: ignore[untyped-decorator]
def product8(
    typing: Any,
    sums: Any,
    messages: Any,
    starts: Any,
    offset: Any,
    weights: Any,
    unsigned: Any,
    first: Any,
    stride: Any,
    taps: Any,
) -> Any:
    """Dense product of 8 pixels and 16 channels, in float32 that stays exact.

    sums[16 p + c] += sum over taps t of messages[starts[p] + offset + t] *
    weights[first + stride t + c]. The caller proves that no partial sum exceeds 2^24; within
    it floats are integers, so neither order nor fused operations change a result.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums_v, messages_v, starts_v, offset_v, weights_v, unsigned_v, first_v, stride_v, taps_v = (
            args
        )
        kinds = signature.args
        real, zero = ir.FloatType(), ir.Constant(first_v.type, 0)
        target = _pointer(context, builder, kinds[0], sums_v, zero)
        base = _pointer(context, builder, kinds[2], starts_v, zero)
        weight_base = _pointer(context, builder, kinds[4], weights_v, first_v)
        pixels, slots, rows = [], [], []
        for pixel in range(PIXELS):
            start = builder.load(builder.gep(base, [ir.Constant(first_v.type, pixel)]))
            start = builder.add(start, offset_v)
            pixels.append(_pointer(context, builder, kinds[1], messages_v, start))
            rows.append(builder.gep(target, [ir.Constant(first_v.type, pixel * LANES)]))
            total = _load(builder, rows[-1], real, LANES, 4)
            slots.append(cgutils.alloca_once_value(builder, total))

        def body(widen: Any) -> None:
            with cgutils.for_range(builder, taps_v) as loop:
                here = builder.gep(weight_base, [builder.mul(loop.index, stride_v)])
                row = builder.sitofp(_weights(builder, here, widen), ir.VectorType(real, LANES))
                for pixel, slot in zip(pixels, slots, strict=True):
                    message = _splat(builder, builder.load(builder.gep(pixel, [loop.index])))
                    product = builder.fmul(message, row, flags=["contract"])
                    total = builder.fadd(builder.load(slot), product, flags=["contract"])
                    builder.store(total, slot)

        _for_both_signs(builder, unsigned_v, body)
        for slot, place in zip(slots, rows, strict=True):
            total = builder.load(slot)
            builder.store(total, builder.bitcast(place, total.type.as_pointer()), align=4)
        return context.get_dummy_value()

    floats, starts_kind = types.Array(types.float32, 1, "C"), types.Array(types.int64, 1, "C")
    return (
        types.void(floats, floats, starts_kind, INDEX, BYTE_ARRAY, INDEX, INDEX, INDEX, INDEX),
        codegen,
    )
