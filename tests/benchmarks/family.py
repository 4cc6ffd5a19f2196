"""CPU families: where the record of a machine lies, and which limits hold on the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from edgeact.records import Machine

__all__ = ["LIMITS", "Limits", "Matrix", "family_of", "limits_of", "matrix_of", "record_folder"]

Matrix = Literal["amx", "avx512-vnni", "avx-vnni", "avx2", "other"]
"""The fastest INT8 products of a processor: 'other' is every processor without AVX2."""

_FLAGS: Mapping[str, Matrix] = MappingProxyType(
    {"amx_int8": "amx", "avx512_vnni": "avx512-vnni", "avx_vnni": "avx-vnni", "avx2": "avx2"}
)
_VENDORS = ("intel", "amd")
_MEASURED = Path("docs/measured")


@dataclass(frozen=True)
class Limits:
    """Least ratios against OpenVINO INT8 by NNCF defaults; None: none is set."""

    full: float | None = None
    """Of the full-size model."""
    narrow: float | None = None
    """Of the shipped model."""
    pruned: float | None = None
    """Of the full-size model without three quarters of its channels, against the peer of the full-size model."""
    torch: float | None = None
    """Of the pruned model against PyTorch."""
    rate: float | None = None
    """Operations per second, against the fastest large INT8 product."""


LIMITS: Mapping[Matrix, Limits] = MappingProxyType(
    {
        "amx": Limits(full=2.2, narrow=1.5, pruned=7.0, torch=90.0, rate=0.9),
        "avx512-vnni": Limits(full=1.5, narrow=1.5, pruned=4.0),
        "avx-vnni": Limits(full=1.5, narrow=1.5, pruned=4.0),
        "avx2": Limits(full=1.4, narrow=1.5, pruned=4.0),
        "other": Limits(),
    }
)


def matrix_of(machine: Machine) -> Matrix:
    """Return the fastest INT8 products of the machine's processor."""
    return next((matrix for flag, matrix in _FLAGS.items() if flag in machine.isa), "other")


def limits_of(machine: Machine) -> Limits:
    """Return the limits that hold on the machine."""
    return LIMITS[matrix_of(machine)]


def family_of(machine: Machine) -> str:
    """Return the family of the machine's processor, for example 'intel-amx'; machines of one family share a record."""
    vendor = next((name for name in _VENDORS if name in machine.processor.lower()), machine.architecture)
    return f"{vendor}-{matrix_of(machine)}"


def record_folder(machine: Machine) -> Path:
    """Return the folder of the family's record, which a machine of another family never overwrites."""
    return _MEASURED / family_of(machine)
