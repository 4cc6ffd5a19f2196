"""Matrix products equal `torch.fft` for every size, axis and norm, and cost what the formulas say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeact.export.graph.fft_lowering import lower_transforms
from edgeact.export.graph.fft_matrices import (
    Basis,
    ComplexPair,
    complex_to_complex,
    complex_to_real,
    direction_of,
    fft_macs,
    matrix_macs,
    real_to_complex,
)
from edgeact.export.models.cost import measure_cost

_NORMS = ("backward", "ortho", "forward")
_SIZES = st.lists(st.integers(1, 13), min_size=1, max_size=4).map(tuple)


def _code(norm: str, *, inverse: bool) -> int:
    """ATen's code: the norm divides in the direction it is named after."""
    return 1 if norm == "ortho" else 2 if (norm == "backward") == inverse else 0


def _matrix(basis: Basis) -> Tensor:
    return basis.matrix()


def _close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))


@st.composite
def _places(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape and some of its axes, in any order, counted from either end."""
    shape = draw(_SIZES)
    axes = draw(st.lists(st.sampled_from(range(len(shape))), min_size=1, unique=True))
    return shape, tuple(axis - draw(st.sampled_from((0, len(shape)))) for axis in axes)


@settings(max_examples=150)
@given(place=_places(), norm=st.sampled_from(_NORMS), seed=st.integers(0, 99))
def test_real_transforms_equal_torch_there_and_back(
    place: tuple[tuple[int, ...], tuple[int, ...]], norm: str, seed: int
) -> None:
    shape, axes = place
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    expected = torch.fft.rfftn(x, dim=axes, norm=norm)
    got = real_to_complex(x, shape, axes, _code(norm, inverse=False), _matrix)
    _close(torch.complex(got.real, got.imag), expected)
    pair = ComplexPair(expected.real, expected.imag)
    _close(complex_to_real(pair, shape, axes, _code(norm, inverse=True), _matrix), x)


@settings(max_examples=100)
@given(place=_places(), norm=st.sampled_from(_NORMS), inverse=st.booleans())
def test_complex_transforms_equal_torch(
    place: tuple[tuple[int, ...], tuple[int, ...]], norm: str, inverse: bool
) -> None:
    shape, axes = place
    x = torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    got = complex_to_complex(
        ComplexPair(x.real, x.imag),
        shape,
        axes,
        _code(norm, inverse=inverse),
        "inverse" if inverse else "forward",
        _matrix,
    )
    transform = torch.fft.ifftn if inverse else torch.fft.fftn
    _close(torch.complex(got.real, got.imag), transform(x, dim=axes, norm=norm))


@pytest.mark.parametrize("size", [(7, 7), (14, 14), (5, 8)])
def test_complex_to_real_equals_torch_for_a_spectrum_without_mirror_symmetry(size: tuple[int, int]) -> None:
    """A network changes a spectrum freely: of its first and last frequency only the real part counts."""
    half = torch.randn((3, size[0], size[1] // 2 + 1), dtype=torch.complex64)
    got = complex_to_real(ComplexPair(half.real, half.imag), (3, *size), (-2, -1), 1, _matrix)
    _close(got, torch.fft.irfft2(half, s=size, norm="ortho"))


class _Cycle(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[-2:])
        return y


@pytest.mark.parametrize("size", [(56, 56), (7, 7), (9, 6)])
def test_both_forms_cost_what_is_counted(size: tuple[int, int]) -> None:
    shape = (1, 2, 3, *size)
    lowered = lower_transforms(_Cycle().eval(), torch.zeros(shape))
    assert measure_cost(lowered, shape).macs == 2 * 6 * matrix_macs(size)
    assert measure_cost(_Cycle(), shape).macs == pytest.approx(2 * 6 * fft_macs(size), abs=2)


def test_matrices_are_found_by_their_names() -> None:
    assert direction_of(Basis("rows", "forward", 56, 1).name) == "forward"
    assert direction_of(Basis("complex_to_real", "inverse", 7, 2).name) == "inverse"
    assert [direction_of(name) for name in ("fourier.weight", "stem.0.weight", "fourier_sideways_rows")] == [None] * 3
