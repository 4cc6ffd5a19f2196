"""Compute discrete Fourier transforms as products with constant real matrices.

A complex tensor is a pair of real ones; `[re | im]` is its parts concatenated along an axis. The matrices hold
s cos(2 pi k m / n) and s sin(2 pi k m / n) for frequency k, position m and the scale s of the norm:

    real to complex     x (.., n)          @ (n, 2f)   = [re | im]    f = n // 2 + 1: the other half is its mirror
    complex to complex  [re | im] (.., 2n) @ (2n, 2n)  = [re | im]
    complex to real     [re | im] (.., 2f) @ (2f, n)   = x

Over the last two axes, (H, W), as in Fourier convolutions, two products without a transpose are enough: the product
over W is reshaped to (2H, f), with real and imaginary rows in turn, and a matrix (2H, 2H) from the left transforms H.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Basis",
    "ComplexPair",
    "Constant",
    "Direction",
    "complex_to_complex",
    "complex_to_real",
    "direction_of",
    "fft_macs",
    "matrix_macs",
    "real_to_complex",
]

Direction = Literal["forward", "inverse"]

_PREFIX = "fourier"
_SCALES: tuple[Callable[[int], float], ...] = (lambda n: 1.0, lambda n: 1 / math.sqrt(n), lambda n: 1 / n)


@dataclass(frozen=True)
class ComplexPair:
    """The real and the imaginary part of a complex tensor."""

    real: Tensor
    imag: Tensor


@dataclass(frozen=True)
class Basis:
    """One matrix: the kind and direction of its transform of an axis of `size`, and ATen's code of the norm.

    The norm divides by 1 (code 0), by the root of the size (1) or by the size (2).
    """

    kind: Literal["real_to_complex", "complex_to_complex", "complex_to_real", "rows"]
    direction: Direction
    size: int
    norm: int

    @property
    def name(self) -> str:
        """Name of the matrix among the constants of a graph: 'fourier_forward_rows_56_1'."""
        return f"{_PREFIX}_{self.direction}_{self.kind}_{self.size}_{self.norm}"

    def matrix(self) -> Tensor:
        """Return the matrix in float32, computed in float64."""
        positions = np.arange(self.size)
        angles = 2 * np.pi / self.size * (np.outer(positions, positions) % self.size)
        cos, sin = np.cos(angles), np.sin(angles) * (-1 if self.direction == "forward" else 1)
        half = self.size // 2 + 1
        if self.kind == "real_to_complex":
            matrix = np.hstack([cos[:, :half], sin[:, :half]])
        elif self.kind == "complex_to_real":
            # All frequencies but the first and the middle one stand for their mirror as well.
            counts = np.where((2 * positions[:half]) % self.size == 0, 1.0, 2.0)[:, None]
            matrix = np.vstack([counts * cos[:half], -counts * sin[:half]])
        else:
            matrix = np.block([[cos, sin], [-sin, cos]])
        if self.kind == "rows":
            interleaved = np.arange(2 * self.size).reshape(2, self.size).T.ravel()
            matrix = matrix.T[:, interleaved] if self.direction == "forward" else matrix.T[interleaved]
        return torch.from_numpy((_SCALES[self.norm](self.size) * matrix).astype(np.float32))


Constant = Callable[[Basis], Tensor]
"""A function that returns the matrix, or its placeholder in a graph under construction."""


def direction_of(name: str) -> Direction | None:
    """Return the direction of the transform whose matrix has this name; None for every other constant."""
    prefix, _, rest = name.partition("_")
    direction = rest.partition("_")[0] if prefix == _PREFIX else ""
    return "forward" if direction == "forward" else "inverse" if direction == "inverse" else None


def matrix_macs(size: tuple[int, int]) -> int:
    """Return the multiply-accumulates of a real transform of (H, W), or of its inverse, as two matrix products."""
    height, width = size
    half = width // 2 + 1
    return height * width * 2 * half + (2 * height) ** 2 * half


def fft_macs(size: tuple[int, int]) -> float:
    """Return the multiply-accumulates of a fast real transform of (H, W): half of a complex one's.

    A complex one takes 5 N log2 N operations; two of them count as a multiply-accumulate.
    """
    values = math.prod(size)
    return 5 * values * math.log2(values) / 4


def real_to_complex(x: Tensor, shape: Sequence[int], axes: Sequence[int], norm: int, constant: Constant) -> ComplexPair:
    """Compute ATen's `_fft_r2c`, one-sided; the last of `axes` is halved. `shape` is that of `x`."""
    *others, last = _from_the_end(axes, shape)
    size, half = shape[last], shape[last] // 2 + 1
    basis = constant(Basis("real_to_complex", "forward", size, norm))
    if (*others, last) == (-2, -1):
        height = shape[-2]
        rows = torch.matmul(x, basis).reshape((*shape[:-2], 2 * height, half))
        return _halves(torch.matmul(constant(Basis("rows", "forward", height, norm)), rows), height, -2)
    spectrum = _halves(torch.matmul(_swapped(x, last), basis), half, -1)
    pair = ComplexPair(_swapped(spectrum.real, last), _swapped(spectrum.imag, last))
    return complex_to_complex(pair, shape, others, norm, "forward", constant)


def complex_to_complex(
    pair: ComplexPair, shape: Sequence[int], axes: Sequence[int], norm: int, direction: Direction, constant: Constant
) -> ComplexPair:
    """Compute ATen's `_fft_c2c`; `shape` has the sizes of `axes`."""
    for axis in _from_the_end(axes, shape):
        basis = constant(Basis("complex_to_complex", direction, shape[axis], norm))
        spectrum = _halves(torch.matmul(_concatenated(pair, axis), basis), shape[axis], -1)
        pair = ComplexPair(_swapped(spectrum.real, axis), _swapped(spectrum.imag, axis))
    return pair


def complex_to_real(
    pair: ComplexPair, shape: Sequence[int], axes: Sequence[int], norm: int, constant: Constant
) -> Tensor:
    """Compute ATen's `_fft_c2r`, the inverse of `real_to_complex`; `shape` is that of the result."""
    *others, last = _from_the_end(axes, shape)
    basis = constant(Basis("complex_to_real", "inverse", shape[last], norm))
    if (*others, last) == (-2, -1):
        height, half = shape[-2], shape[-1] // 2 + 1
        rows = torch.matmul(constant(Basis("rows", "inverse", height, norm)), torch.cat([pair.real, pair.imag], dim=-2))
        return torch.matmul(rows.reshape((*shape[:-1], 2 * half)), basis)
    pair = complex_to_complex(pair, shape, others, norm, "inverse", constant)
    return _swapped(torch.matmul(_concatenated(pair, last), basis), last)


def _concatenated(pair: ComplexPair, axis: int) -> Tensor:
    """Return `[re | im]` of an axis, which becomes the last one."""
    return torch.cat([_swapped(pair.real, axis), _swapped(pair.imag, axis)], dim=-1)


def _halves(concatenated: Tensor, size: int, axis: int) -> ComplexPair:
    parts = torch.split(concatenated, size, axis)
    return ComplexPair(parts[0], parts[1])


def _swapped(x: Tensor, axis: int) -> Tensor:
    """Swap `axis` and the last one."""
    return x if axis == -1 else x.transpose(axis, -1)


def _from_the_end(axes: Sequence[int], shape: Sequence[int]) -> list[int]:
    """Return the axes counted from the end: -1 is the last."""
    return [axis % len(shape) - len(shape) for axis in axes]
