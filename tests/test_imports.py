"""The device side must start light: no toolchain, no backend, no OpenCV is loaded by importing it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda", "cv2", "scipy", "matplotlib")
TOOLCHAIN = ("edgeact.export", "edgeact.calibration")


@pytest.mark.parametrize("module", ["edgeact", "edgeact.runtime", "edgeact.devices", "edgeact.bundle", "edgeact.cli"])
def test_importing_it_loads_no_toolchain(module: str) -> None:
    program = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert loaded.isdisjoint(HEAVY + TOOLCHAIN)
