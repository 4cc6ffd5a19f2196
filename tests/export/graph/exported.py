"""Narrow registry models and their graphs, each exported once."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from torch import nn

from edgeact.clip import ClipSpec
from edgeact.export.graph.proto import from_bytes, to_bytes
from edgeact.export.graph.torch_to_onnx import to_onnx
from tests.matrix.sweep import Size, Trial, prepare
from tests.sharing import shared_bytes

__all__ = ["Exported", "exported", "random_clips", "run_onnx", "trial"]


@dataclass(frozen=True)
class Exported:
    """A module with its clip and its graph; none may be changed."""

    module: nn.Module
    clip: ClipSpec
    graph: ir.Model


def trial(name: str, width: int = 8) -> Trial:
    """Return a registry model or formula of 5 classes for clips of 4 frames of 32x32 pixels; cached."""
    return _trial(name, width)


@functools.cache  # behind `trial`, which fills in defaults: the cache tells calls with and without defaults apart
def _trial(name: str, width: int) -> Trial:
    def convert(module: nn.Module, clip: ClipSpec) -> ir.Model:
        key = f"graph of {name}, width {width}"
        return from_bytes(shared_bytes(key, lambda: to_bytes(to_onnx(module, clip))))

    return prepare(name, Size(width=width, clip_frames=4, size=32, classes=5), threads=2, convert=convert)


def exported(name: str, width: int = 8) -> Exported:
    """Return the module, clip and graph of `trial`."""
    case = trial(name, width)
    return Exported(case.model.module, case.model.clip, case.master)


def random_clips(clip: ClipSpec, count: int) -> list[NDArray[np.float32]]:
    """Return float32 clips of normally distributed pixels, the same for the same arguments."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=clip.input_shape).astype(np.float32) for _ in range(count)]


def run_onnx(graph: ir.Model, clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the graph's first output by ONNX Runtime, in exact INT8 on every CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(to_bytes(graph), options, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: clip})[0]
    return result
