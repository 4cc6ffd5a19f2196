"""The compiled engine: ctypes mirrors of the structures in `csrc/engine.h`, and the signatures of its functions."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Mapping
from ctypes import POINTER, Array, Structure, c_double, c_float, c_int, c_int32, c_int64, c_void_p
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol, cast, get_args

from edgeact.errors import BackendUnavailableError

__all__ = [
    "ISA_CODES",
    "ISA_VARIABLE",
    "BinaryStruct",
    "BufferStruct",
    "ConvStruct",
    "DenseStruct",
    "DequantizeStruct",
    "EpilogueStruct",
    "FloatConvStruct",
    "FloatPoolStruct",
    "InputStruct",
    "Isa",
    "NativeLibrary",
    "OpStruct",
    "PoolStruct",
    "QuantizeStruct",
    "ReduceStruct",
    "SummandStruct",
    "UnaryStruct",
    "chosen_isa",
    "library",
    "library_file",
    "supported_isas",
]

Isa = Literal["avx2", "avx-vnni", "avx512-vnni", "amx-int8", "neon", "neon-dotprod", "neon-i8mm"]

ISA_CODES: Mapping[Isa, int] = MappingProxyType({isa: code for code, isa in enumerate(get_args(Isa))})
"""Value of EA_AVX2 and its successors in csrc/engine.h, the slowest of a processor family first."""
ISA_VARIABLE = "EDGEACT_NATIVE_ISA"
"""Environment variable that names the instruction set in place of the fastest: for tests, and to compare them."""
library_file = Path(__file__).with_name("libedgeact_native.so")
_VERSION = 7


class BufferStruct(Structure):
    """Mirror of `ea_buffer`."""

    _fields_ = (
        ("data", c_void_p),
        ("time_stride", c_int64),
        ("row_stride", c_int64),
        ("pixel_stride", c_int64),
        ("size", c_int32 * 3),
        ("channels", c_int32),
        ("zero_point", c_int32),
    )


class SummandStruct(Structure):
    """Mirror of `ea_summand`."""

    _fields_ = (("from_", POINTER(BufferStruct)), ("channel", c_int32), ("scale", c_float))


class EpilogueStruct(Structure):
    """Mirror of `ea_epilogue`."""

    _fields_ = (
        ("first", c_int32),
        ("last", c_int32),
        ("to", POINTER(BufferStruct)),
        ("channel", c_int32),
        ("relu", c_int32),
        ("relu_after_sum", c_int32),
        ("is_float", c_int32),
        ("accumulate", c_int32),
        ("summands", c_int32),
        ("summand", SummandStruct * 2),
        ("scale", c_void_p),
        ("bias", c_void_p),
    )


class ConvStruct(Structure):
    """Mirror of `ea_conv`."""

    _fields_ = (
        ("from_", POINTER(BufferStruct)),
        ("out_size", c_int32 * 3),
        ("stride", c_int32 * 3),
        ("kernel", c_int32 * 3),
        ("padding", c_int32 * 3),
        ("channel", c_int32),
        ("inputs", c_int32),
        ("outputs", c_int32),
        ("form", c_int32),
        ("windows", c_int32),
        ("offsets", c_void_p),
        ("quads", c_void_p),
        ("window_quads", c_void_p),
        ("frame_windows", c_void_p),
        ("weights", c_void_p),
        ("packed", c_void_p),
        ("scratch", c_void_p),
        ("scratch_bytes", c_int64),
        ("tiles", c_int32),
        ("epilogues", c_int32),
        ("epilogue", POINTER(EpilogueStruct)),
    )


class InputStruct(Structure):
    """Mirror of `ea_input`."""

    _fields_ = (
        ("from_", c_void_p),
        ("channels", c_int32),
        ("size", c_int32 * 3),
        ("block", c_int32 * 3),
        ("scale", c_float),
        ("to", POINTER(BufferStruct)),
    )


class PoolStruct(Structure):
    """Mirror of `ea_pool`."""

    _fields_ = (
        ("from_", POINTER(BufferStruct)),
        ("to", POINTER(BufferStruct)),
        ("kernel", c_int32 * 3),
        ("stride", c_int32 * 3),
        ("padding", c_int32 * 3),
    )


class BinaryStruct(Structure):
    """Mirror of `ea_binary`."""

    _fields_ = (
        ("op", c_int32),
        ("size", c_int32 * 4),
        ("a", c_void_p),
        ("b", c_void_p),
        ("a_stride", c_int64 * 4),
        ("b_stride", c_int64 * 4),
        ("to", c_void_p),
    )


class UnaryStruct(Structure):
    """Mirror of `ea_unary`."""

    _fields_ = (("op", c_int32), ("count", c_int64), ("from_", c_void_p), ("to", c_void_p))


class ReduceStruct(Structure):
    """Mirror of `ea_reduce`."""

    _fields_ = (
        ("op", c_int32),
        ("size", c_int32 * 4),
        ("axes", c_int32 * 4),
        ("from_", c_void_p),
        ("to", c_void_p),
    )


class FloatPoolStruct(Structure):
    """Mirror of `ea_float_pool`."""

    _fields_ = (
        ("size", c_int32 * 3),
        ("channels", c_int32),
        ("out_size", c_int32 * 3),
        ("kernel", c_int32 * 3),
        ("stride", c_int32 * 3),
        ("padding", c_int32 * 3),
        ("from_", c_void_p),
        ("to", c_void_p),
    )


class DenseStruct(Structure):
    """Mirror of `ea_dense`."""

    _fields_ = (
        ("inputs", c_int32),
        ("outputs", c_int32),
        ("from_", c_void_p),
        ("weights", c_void_p),
        ("bias", c_void_p),
        ("to", c_void_p),
    )


class FloatConvStruct(Structure):
    """Mirror of `ea_float_conv`."""

    _fields_ = (
        ("size", c_int32 * 3),
        ("channels", c_int32),
        ("outputs", c_int32),
        ("kernel", c_int32 * 3),
        ("padding", c_int32 * 3),
        ("from_", c_void_p),
        ("weights", c_void_p),
        ("bias", c_void_p),
        ("to", c_void_p),
    )


class QuantizeStruct(Structure):
    """Mirror of `ea_quantize`."""

    _fields_ = (
        ("from_", c_void_p),
        ("channel", c_int32),
        ("channels", c_int32),
        ("scale", c_float),
        ("to", POINTER(BufferStruct)),
    )


class DequantizeStruct(Structure):
    """Mirror of `ea_dequantize`."""

    _fields_ = (
        ("from_", POINTER(BufferStruct)),
        ("channel", c_int32),
        ("channels", c_int32),
        ("scale", c_float),
        ("to", c_void_p),
        ("to_channel", c_int32),
        ("to_channels", c_int32),
    )


class OpStruct(Structure):
    """Mirror of `ea_op`."""

    _fields_ = (("opcode", c_int32), ("arguments", c_void_p))


class NativeLibrary(Protocol):
    """The exported functions; an engine is an opaque address."""

    def ea_version(self) -> int: ...

    def ea_isas(self) -> int: ...

    def ea_choose_form(self, conv: ConvStruct, isa: int, /) -> int: ...

    def ea_pack(self, conv: ConvStruct, taps: int, to: int, /) -> int: ...

    def ea_pack_bytes(self, conv: ConvStruct, /) -> int: ...

    def ea_scratch_bytes(self, conv: ConvStruct, /) -> int: ...

    def ea_open(self, threads: int, isa: int, /) -> int | None: ...

    def ea_run(
        self,
        engine: int,
        instructions: Array[OpStruct],
        count: int,
        microseconds: ctypes._Pointer[c_double] | None,
        /,
    ) -> None: ...

    def ea_close(self, engine: int, /) -> None: ...


@functools.cache
def library() -> NativeLibrary:
    """Load the library once; raises OSError if the file is missing, does not load, or has another version."""
    loaded = ctypes.CDLL(str(library_file))
    if not hasattr(loaded, "ea_version") or loaded.ea_version() != _VERSION:
        raise OSError(f"{library_file.name} was built from other sources; install edgeact again")
    loaded.ea_isas.restype = c_int
    loaded.ea_choose_form.argtypes, loaded.ea_choose_form.restype = (POINTER(ConvStruct), c_int), c_int
    loaded.ea_pack.argtypes, loaded.ea_pack.restype = (POINTER(ConvStruct), c_void_p, c_void_p), c_int64
    for function in (loaded.ea_pack_bytes, loaded.ea_scratch_bytes):
        function.argtypes, function.restype = (POINTER(ConvStruct),), c_int64
    loaded.ea_open.argtypes, loaded.ea_open.restype = (c_int, c_int), c_void_p
    loaded.ea_run.argtypes = (c_void_p, POINTER(OpStruct), c_int, POINTER(c_double))
    loaded.ea_run.restype = None
    loaded.ea_close.argtypes, loaded.ea_close.restype = (c_void_p,), None
    return cast(NativeLibrary, loaded)


def supported_isas() -> tuple[Isa, ...]:
    """Return the instruction sets of this processor that the engine supports, the fastest first."""
    bits = library().ea_isas()
    return tuple(isa for isa, code in reversed(tuple(ISA_CODES.items())) if bits >> code & 1)


def chosen_isa() -> Isa | None:
    """Return the instruction set to run by, None if this processor has none that the engine supports.

    That is the fastest, or the one that the environment variable `ISA_VARIABLE` names. Raises BackendUnavailableError
    if this processor lacks the named one.
    """
    supported = supported_isas()
    named = os.environ.get(ISA_VARIABLE)
    if not named:
        return supported[0] if supported else None
    if named not in supported:
        raise BackendUnavailableError(
            f"native: {ISA_VARIABLE} is '{named}', expected an instruction set of this processor: "
            f"{', '.join(supported) or 'none is supported'}; change or unset the variable"
        )
    return next(isa for isa in supported if isa == named)
