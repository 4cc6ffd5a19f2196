"""`python -m tests.benchmarks.fourier`: latency of the transforms of a Fourier unit, as FFT and as matrix products.

Forward and inverse transform of 192 maps, one thread, FP32, in turns. PyTorch runs a module and its lowered form;
OpenVINO runs its RDFT and IRDFT, and the module as the exporter converts it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino import opset13 as ops
from torch import Tensor, nn

from edgeact.bench import interleave
from edgeact.clip import ClipSpec
from edgeact.devices import probe_machine
from edgeact.export.graph.fft_lowering import lower_transforms
from edgeact.export.graph.fft_matrices import fft_macs, matrix_macs
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import to_onnx

__all__ = ["EDGES", "Cycle", "forms", "table"]

EDGES = (56, 28, 14, 7)
_FRAMES = 64  # of 3 channels each
_ROUNDS = 200

Array = NDArray[np.float32]
Form = Callable[[Array], Array]


class Cycle(nn.Module):
    """The transforms of a Fourier unit without the layers between them."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, transformed forward and back."""
        spectrum = torch.fft.rfft2(x, norm="ortho")
        result: Tensor = torch.fft.irfft2(spectrum, s=x.shape[-2:], norm="ortho")
        return result


def forms(clip: ClipSpec) -> dict[str, Form]:
    """Return four implementations of the same function of float32 `clip.input_shape`, by name."""
    module, example = Cycle().eval(), torch.zeros(clip.input_shape)
    lowered = lower_transforms(module, example)
    core = openvino.Core()
    return {
        "PyTorch, FFT": _in_pytorch(module),
        "PyTorch, matrices": _in_pytorch(lowered),
        "OpenVINO, RDFT": _in_openvino(core, _transforms(clip)),
        "OpenVINO, matrices": _in_openvino(core, core.read_model(to_bytes(to_onnx(module, clip)))),
    }


def table(rounds: int = _ROUNDS, edges: tuple[int, ...] = EDGES) -> str:
    """Return multiply-accumulates per map and median milliseconds for all maps, as a Markdown table."""
    torch.set_num_threads(1)
    lines: list[str] = []
    for edge in edges:
        medians_ms = _medians_ms(_clip(edge), rounds)
        if not lines:
            titles = ["map", "kMACs, FFT", "kMACs, matrices", *medians_ms]
            lines += [f"| {' | '.join(titles)} |", f"| {' | '.join('---' for _ in titles)} |"]
        counts = [f"{2 * count((edge, edge)) / 1e3:.1f}" for count in (fft_macs, matrix_macs)]
        lines.append(
            f"| {' | '.join([f'{edge}x{edge}', *counts, *(f'{value:.2f} ms' for value in medians_ms.values())])} |"
        )
    machine = probe_machine(("openvino", "torch"))
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return "\n".join([*lines, "", f"{machine.processor}, one thread; {versions}."])


def _medians_ms(clip: ClipSpec, rounds: int) -> dict[str, float]:
    x = np.random.default_rng(0).normal(size=clip.input_shape).astype(np.float32)
    runs = {name: partial(form, x) for name, form in forms(clip).items()}
    return {name: latency.p50_ms for name, latency in interleave(runs, rounds).items()}


def _clip(edge: int) -> ClipSpec:
    size = (edge, edge)
    return ClipSpec(clip_frames=_FRAMES, fps=25.0, resize=size, crop=size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def _in_pytorch(module: nn.Module) -> Form:
    def run(x: Array) -> Array:
        with torch.no_grad():
            result: Array = module(torch.from_numpy(x)).numpy()
        return result

    return run


def _transforms(clip: ClipSpec) -> openvino.Model:
    clips = ops.parameter(list(clip.input_shape), np.float32)
    axes, size = (ops.constant(np.array(values, np.int64)) for values in ((3, 4), clip.crop))
    return openvino.Model([ops.irdft(ops.rdft(clips, axes), axes, size)], [clips])


def _in_openvino(core: openvino.Core, model: openvino.Model) -> Form:
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    request = core.compile_model(model, "CPU", hints).create_infer_request()

    def run(x: Array) -> Array:
        result: Array = request.infer([x], share_inputs=True, share_outputs=True)[0]
        return result

    return run


if __name__ == "__main__":
    print(table())
