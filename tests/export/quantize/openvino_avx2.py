"""Run graphs in OpenVINO as on a CPU with AVX2 alone: a process whose oneDNN is limited to that instruction set."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import openvino
from numpy.typing import NDArray

from edgeact.export.cpu.openvino import to_openvino
from edgeact.export.graph.proto import to_bytes

__all__ = ["IS_X86", "run_with_avx2"]

IS_X86 = platform.machine() in ("x86_64", "AMD64")
_LAYERS = ("Convolution", "FullyConnected", "MatMul")

Array = NDArray[np.float32]


def run_with_avx2(
    models: Mapping[str, ir.Model], clips: Mapping[str, Sequence[Array]], folder: Path
) -> tuple[dict[str, list[Array]], set[str]]:
    """Return the first output of every model for each of its clips, and the kernels of all layers, 'jit_avx2_I8'."""
    for name, model in models.items():
        (folder / f"{name}.onnx").write_bytes(to_bytes(model))
        np.savez(folder / f"{name}.clips.npz", *clips[name])
    subprocess.run(
        [sys.executable, "-m", __name__, str(folder)],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        check=True,
        cwd=Path(__file__).resolve().parents[3],
    )
    outputs = {}
    for name in models:
        with np.load(folder / f"{name}.outputs.npz") as arrays:
            outputs[name] = list(arrays.values())
    return outputs, set(json.loads((folder / "kernels.json").read_text()))


def _main(folder: Path) -> None:
    core, kernels = openvino.Core(), set()
    for path in sorted(folder.glob("*.onnx")):
        model = core.read_model(*to_openvino(path.read_bytes()))
        # The limit does not reach OpenVINO's choice of BF16 for layers in float, which then have no kernel.
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        with np.load(path.with_suffix(".clips.npz")) as clips:
            outputs = [compiled(clip)[0].copy() for clip in clips.values()]
        np.savez(path.with_suffix(".outputs.npz"), *outputs)
        for node in compiled.get_runtime_model().get_ordered_ops():
            facts = {key: value.astype(str) for key, value in node.get_rt_info().items()}
            if facts["layerType"] in _LAYERS:
                kernels.add(facts["primitiveType"])
    (folder / "kernels.json").write_text(json.dumps(sorted(kernels)))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
