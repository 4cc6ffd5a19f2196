"""Users' own modules with `torch.fft`, in the ways people write them: the same numbers without complex ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeact.errors import ConversionError
from edgeact.export.cpu.openvino import to_openvino
from edgeact.export.graph.fft_lowering import lower_transforms
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import at_opset, to_onnx
from edgeact.export.models.registry import MODELS
from edgeact.export.models.spec import resized_clip
from edgeact.export.tensorrt.fp16 import to_strong_fp16
from edgeact.export.tensorrt.lint import lint_graph
from edgeact.export.tensorrt.rtx_compiler import check_and_build
from edgeact.layer_reasons import ActivationOverflows
from tests.export.graph.exported import exported, random_clips, run_onnx
from tests.export.graph.graphs import dialect
from tests.messages import names

Forward = Callable[["_Users", Tensor], Any]  # torch.fft is not annotated
_CLIP = resized_clip(MODELS["cnn3d"].clip, clip_frames=4, size=19)
fft = torch.fft


class _Users(nn.Module):
    """A module with a complex weight whose forward is given."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 1, 1, 1, dtype=torch.cfloat))
        self.mix = nn.Parameter(torch.randn(3, 4, dtype=torch.cfloat))
        self.own = forward

    def forward(self, x: Tensor) -> Any:
        """Whatever was given."""
        return self.own(self, x)


def _as_ffc(module: _Users, x: Tensor) -> Any:
    """Stacked, viewed, split and put together again, as FFC's and LaMa's public code does."""
    n, c, *sizes = x.shape
    found = fft.rfftn(x, dim=(-2, -1), norm="ortho")
    stacked = torch.stack((found.real, found.imag), dim=-1).permute(0, 1, 5, 2, 3, 4).contiguous()
    channels = torch.relu(stacked.view(n, 2 * c, *stacked.shape[3:]))
    parts = channels.view(n, c, 2, *channels.shape[2:]).permute(0, 1, 3, 4, 5, 2).contiguous()
    return fft.irfftn(torch.complex(parts[..., 0], parts[..., 1]), s=sizes[-2:], dim=(-2, -1), norm="ortho")


def _by_amplitude_and_phase(module: _Users, x: Tensor) -> Any:
    found = fft.rfft2(x) + 2
    return fft.irfft2(torch.polar(found.abs().sqrt(), found.angle()), s=x.shape[-2:])


WAYS: dict[str, Forward] = {
    "parts as channels": lambda m, x: torch.cat([(f := fft.rfft2(x, norm="ortho")).real, f.imag], dim=1),
    "FFC": _as_ffc,
    "amplitude and phase": _by_amplitude_and_phase,
    "global filter": lambda m, x: fft.irfft2(fft.rfft2(x, norm="ortho") * m.weight, s=x.shape[-2:], norm="ortho"),
    "neural operator": lambda m, x: fft.irfft2(torch.einsum("ncthw,cd->ndthw", fft.rfft2(x), m.mix), s=x.shape[-2:]),
    "complex view": lambda m, x: fft.irfft2(torch.view_as_complex(torch.view_as_real(fft.rfft2(x)).relu())),
    "complex input": lambda m, x: fft.ifft2(fft.fft2(x, norm="forward") * 1j, norm="forward").imag,
    "over frames": lambda m, x: fft.irfft(fft.rfft(x, dim=2), n=x.shape[2], dim=2),
    "over all three": lambda m, x: fft.fftshift(fft.fftn(x, dim=(2, 3, 4)), dim=(3, 4)).abs(),
    "longer and shorter": lambda m, x: fft.irfft(fft.rfft(x, n=24), n=7),
    "padded spectrum": lambda m, x: fft.irfft2(functional.pad(fft.rfft2(x), (0, 3, 2, 2))),
    "Hermitian": lambda m, x: fft.hfft(fft.ihfft(x), n=x.shape[-1]),
    "Wiener": lambda m, x: fft.irfft2(
        fft.rfft2(x) * m.weight.conj() / (fft.rfft2(x).conj() / 100 + (3 + 2j) - x.mean())
    ),
    "stacked and summed": lambda m, x: torch.stack([fft.rfft2(x), fft.rfft2(2 * x)]).sum(dim=0).unbind(1)[0].real,
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_lowered_modules_compute_the_same_without_complex_numbers(way: str) -> None:
    module = _Users(WAYS[way]).eval()
    x = torch.randn(2, 3, 4, 6, 7)  # seeded by the module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    lowered = lower_transforms(module, x)
    expected = module(x).detach()
    torch.testing.assert_close(lowered(x), expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))
    with torch.no_grad(), _NoComplex():  # type: ignore[no-untyped-call]
        lowered(x)
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


class _NoComplex(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fails where anything complex is computed."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        assert not any(isinstance(one, Tensor) and one.is_complex() for one in (result, *args)), func
        return result


def test_a_module_without_transforms_is_left_alone() -> None:
    module = exported("cnn3d").module
    assert lower_transforms(module, torch.zeros(exported("cnn3d").clip.input_shape)) is module


class _Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Takes a root of complex numbers, which has no form here."""
        return torch.sqrt(fft.rfft2(x)).real


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "parts"),
    [
        (
            nn.Sequential(nn.Identity(), _Inner()),
            ("layer '1'", "expected Fourier transforms", "aten.sqrt.default", "compute on .real and .imag"),
        ),
        (_Users(lambda m, x: fft.rfft2(x)), ("expected Fourier transforms", "got a complex result of the model")),
        (_Users(lambda m, x: torch.stft(x[0, 0, 0], 8, return_complex=True).abs()), ("aten.stft",)),
    ],
)
def test_what_has_no_real_form_is_reported_with_its_layer(module: nn.Module, parts: tuple[str, ...]) -> None:
    with pytest.raises(ConversionError, check=names(*parts)):
        to_onnx(module, _CLIP)


class _Spectral(nn.Module):
    """A user's classifier on a filtered spectrum, unscaled as `torch.fft` has it by default."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = norm
        self.conv = nn.Conv3d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, T, H, W)` -> `(N, 3)`."""
        found = fft.rfft2(10 + x, norm=self.norm)
        real, imag = self.conv(torch.cat([found.real, found.imag], dim=1)).chunk(2, dim=1)
        y: Tensor = fft.irfft2(torch.complex(real, imag), s=x.shape[-2:], norm=self.norm)
        return y.abs().mean(dim=(2, 3, 4))


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["ortho", "backward"])
def test_every_converter_takes_a_lowered_graph(norm: str) -> None:
    module = _Spectral(norm)
    graph = at_opset(to_onnx(module, _CLIP), 13)
    assert {node.op_type for node in graph.graph} & {"DFT", "STFT", "Loop", "ScatterND"} == set()
    (clip,) = random_clips(_CLIP, 1)
    with torch.no_grad():
        expected = module(torch.from_numpy(clip)).numpy()
    np.testing.assert_allclose(run_onnx(graph, clip), expected, rtol=1e-5)
    xml, weights = to_openvino(to_bytes(graph))
    core = openvino.Core()
    for precision, tolerance in (("f32", 1e-5), ("bf16", 3e-2)):
        compiled = core.compile_model(core.read_model(xml, weights), "CPU", {"INFERENCE_PRECISION_HINT": precision})
        np.testing.assert_allclose(compiled(clip)[0], expected, rtol=tolerance)
    for board, release in (("orin-nano-8gb", "jetpack-5.1"), ("orin-nano-8gb", "jetpack-6.2")):
        assert [one for one in lint_graph(graph, dialect(board, release)) if one.severity == "error"] == []
    pytest.importorskip("tensorrt_rtx")
    assert check_and_build(to_bytes(graph), "8.9").engine


@pytest.mark.slow
def test_an_unscaled_spectrum_that_outgrows_fp16_remains_in_fp32() -> None:
    """19 x 19 pixels of 60 add up to 21660, past the margin; the orthonormal scale keeps them at 1140."""
    clip = np.full(_CLIP.input_shape, 50, np.float32)
    kept = {}
    for norm in ("backward", "ortho"):
        result = to_strong_fp16(to_onnx(_Spectral(norm), _CLIP), [clip])
        kept[norm] = [reason for reason in result.float_layers.values() if isinstance(reason, ActivationOverflows)]
        np.testing.assert_allclose(
            run_onnx(result.model, clip), run_onnx(to_onnx(_Spectral(norm), _CLIP), clip), rtol=2e-3
        )
    assert len(kept["backward"]) > 2
    assert kept["ortho"] == []
