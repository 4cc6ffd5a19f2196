"""The compiled engine: its structures and functions for ctypes, as `csrc/engine.h` has them."""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, Structure, c_double, c_float, c_int, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any

__all__ = [
    "BinaryStep",
    "ConvStep",
    "DenseStep",
    "FeaturesAt",
    "InputStep",
    "PoolStep",
    "ReduceStep",
    "RestoreStep",
    "RoundStep",
    "SmallConvStep",
    "StepAt",
    "StoreAt",
    "SummandAt",
    "UnaryStep",
    "instructions",
    "library",
    "library_file",
]

library_file = Path(__file__).with_name("libedgeact_native.so")
_VERSION = 1
_INSTRUCTIONS = {0: None, 1: "avx512-vnni", 2: "amx-int8"}


class FeaturesAt(Structure):
    """`ea_features`."""

    _fields_ = (
        ("data", c_void_p),
        ("time", c_int64),
        ("row", c_int64),
        ("pixel", c_int64),
        ("size", c_int32 * 3),
        ("channels", c_int32),
        ("zero", c_int32),
    )


class SummandAt(Structure):
    """`ea_summand`."""

    _fields_ = (("from_", POINTER(FeaturesAt)), ("channel", c_int32), ("scale", c_float))


class StoreAt(Structure):
    """`ea_store`."""

    _fields_ = (
        ("first", c_int32),
        ("last", c_int32),
        ("to", POINTER(FeaturesAt)),
        ("channel", c_int32),
        ("relu", c_int32),
        ("relu_sum", c_int32),
        ("is_float", c_int32),
        ("onto", c_int32),
        ("summands", c_int32),
        ("summand", SummandAt * 2),
        ("scale", c_void_p),
        ("bias", c_void_p),
    )


class ConvStep(Structure):
    """`ea_conv`."""

    _fields_ = (
        ("from_", POINTER(FeaturesAt)),
        ("out", c_int32 * 3),
        ("stride", c_int32 * 3),
        ("windows", c_int32),
        ("offsets", c_void_p),
        ("quads", c_void_p),
        ("weights", c_void_p),
        ("tiles", c_int32),
        ("stores", c_int32),
        ("store", POINTER(StoreAt)),
    )


class InputStep(Structure):
    """`ea_input`."""

    _fields_ = (
        ("from_", c_void_p),
        ("channels", c_int32),
        ("size", c_int32 * 3),
        ("block", c_int32 * 3),
        ("scale", c_float),
        ("to", POINTER(FeaturesAt)),
    )


class PoolStep(Structure):
    """`ea_pool`."""

    _fields_ = (
        ("from_", POINTER(FeaturesAt)),
        ("to", POINTER(FeaturesAt)),
        ("kernel", c_int32 * 3),
        ("stride", c_int32 * 3),
        ("pad", c_int32 * 3),
    )


class BinaryStep(Structure):
    """`ea_binary`."""

    _fields_ = (
        ("kind", c_int32),
        ("size", c_int32 * 4),
        ("a", c_void_p),
        ("b", c_void_p),
        ("a_stride", c_int64 * 4),
        ("b_stride", c_int64 * 4),
        ("to", c_void_p),
    )


class UnaryStep(Structure):
    """`ea_unary`."""

    _fields_ = (("kind", c_int32), ("count", c_int64), ("from_", c_void_p), ("to", c_void_p))


class ReduceStep(Structure):
    """`ea_reduce`."""

    _fields_ = (
        ("kind", c_int32),
        ("size", c_int32 * 4),
        ("over", c_int32 * 4),
        ("from_", c_void_p),
        ("to", c_void_p),
    )


class DenseStep(Structure):
    """`ea_dense`."""

    _fields_ = (
        ("inputs", c_int32),
        ("outputs", c_int32),
        ("from_", c_void_p),
        ("weights", c_void_p),
        ("bias", c_void_p),
        ("to", c_void_p),
    )


class SmallConvStep(Structure):
    """`ea_small_conv`."""

    _fields_ = (
        ("size", c_int32 * 3),
        ("channels", c_int32),
        ("outputs", c_int32),
        ("kernel", c_int32 * 3),
        ("pad", c_int32 * 3),
        ("from_", c_void_p),
        ("weights", c_void_p),
        ("bias", c_void_p),
        ("to", c_void_p),
    )


class RoundStep(Structure):
    """`ea_round`."""

    _fields_ = (
        ("from_", c_void_p),
        ("channel", c_int32),
        ("channels", c_int32),
        ("scale", c_float),
        ("to", POINTER(FeaturesAt)),
    )


class RestoreStep(Structure):
    """`ea_restore`."""

    _fields_ = (
        ("from_", POINTER(FeaturesAt)),
        ("channel", c_int32),
        ("channels", c_int32),
        ("scale", c_float),
        ("to", c_void_p),
        ("to_channel", c_int32),
        ("to_channels", c_int32),
    )


class StepAt(Structure):
    """`ea_step`."""

    _fields_ = (("kind", c_int32), ("what", c_void_p))


@functools.cache
def library() -> Any:
    """The loaded library; raises OSError where it is not built or does not load."""
    loaded = ctypes.CDLL(str(library_file))
    if not hasattr(loaded, "ea_version") or loaded.ea_version() != _VERSION:
        raise OSError(f"{library_file.name} was built from other sources; install edgeact again")
    loaded.ea_instructions.restype = c_int
    loaded.ea_open.argtypes, loaded.ea_open.restype = (c_int, c_int), c_void_p
    loaded.ea_run.argtypes, loaded.ea_run.restype = (c_void_p, POINTER(StepAt), c_int, POINTER(c_double)), None
    loaded.ea_close.argtypes, loaded.ea_close.restype = (c_void_p,), None
    return loaded


def instructions() -> str | None:
    """'amx-int8' or 'avx512-vnni', whichever is best here; None where the processor has neither."""
    return _INSTRUCTIONS[library().ea_instructions()]
