"""Subjects of the benchmarks: the bundle and its alternatives, each with its best documented settings.

A subject is timed only after its logits were compared with those of PyTorch, so that no wrong result is timed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import openvino
import torch
from torch import nn

from edgeact.errors import ParityError
from edgeact.runtime import Recognizer

__all__ = [
    "Subject",
    "bundle_subject",
    "nncf_default_int8",
    "nncf_defaults",
    "onnxruntime_subject",
    "openvino_subject",
    "require_agreement",
    "torch_subject",
]

Array = npt.NDArray[np.float32]

# The cosine of unrelated models is within 0.1 of 0. INT8 has no limit of the SNR: NNCF's defaults keep the direction of
# an untrained model's logits (cosine 0.8 to 0.9) but lose most of their magnitude.
_MIN_COSINE = 0.5
_MIN_SNR_DB = {"fp32": 60.0, "fp16": 20.0, "bf16": 20.0}


@dataclass(frozen=True)
class Subject:
    """A model to time: `run` takes float32 (1, 3, T, H, W) and returns logits float32 (1, classes)."""

    name: str
    precision: str
    """'fp32', 'fp16', 'bf16' or 'int8'."""
    run: Callable[[Array], Array]
    how: str


def require_agreement(subject: Subject, reference: Subject, clips: Sequence[Array]) -> float:
    """Return the SNR of the subject against the reference on `clips`, dB; raises ParityError if the models differ."""
    expected = np.concatenate([reference.run(clip) for clip in clips]).astype(np.float64)
    logits = np.concatenate([subject.run(clip) for clip in clips]).astype(np.float64)
    noise = float(((logits - expected) ** 2).sum())
    snr_db = 10 * math.log10(float((expected**2).sum()) / max(noise, 1e-30))
    cosine = float((expected * logits).sum() / max(np.linalg.norm(expected) * np.linalg.norm(logits), 1e-30))
    min_snr_db = _MIN_SNR_DB.get(subject.precision, -math.inf)
    if not (cosine >= _MIN_COSINE and snr_db >= min_snr_db):
        raise ParityError(
            f"'{subject.name}' against {reference.name}: cosine {cosine:.2f} and {snr_db:.1f} dB, expected at least "
            f"{_MIN_COSINE} and {min_snr_db:.0f} dB for {subject.precision}; the models differ"
        )
    return snr_db


def bundle_subject(recognizer: Recognizer) -> Subject:
    """Return the chosen artifact of a bundle, run by the session of the runtime with all its checks."""
    choice = recognizer.choice
    how = f"edgeact.runtime.load, {choice.artifact} on {choice.backend}, session.run with its checks"
    return Subject("bundle", choice.precision, lambda clip: recognizer.session.run(clip).logits, how)


def torch_subject(module: nn.Module, threads: int) -> Subject:
    """Return eager PyTorch FP32 in inference mode."""
    torch.set_num_threads(threads)

    def run(clip: Array) -> Array:
        with torch.inference_mode():
            logits: Array = module(torch.from_numpy(clip)).numpy()
        return logits

    return Subject("PyTorch eager FP32", "fp32", run, f"inference_mode, {threads} threads")


def onnxruntime_subject(graph: bytes, threads: int) -> Subject:
    """Return ONNX Runtime FP32 on the CPU provider with all graph optimizations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return Subject(
        "ONNX Runtime FP32",
        "fp32",
        lambda clip: np.asarray(session.run(None, {name: clip})[0]),
        f"CPU provider, all optimizations, {threads} threads",
    )


def openvino_subject(name: str, precision: str, model: openvino.Model, threads: int) -> Subject:
    """Return OpenVINO with the latency hint, one infer request and shared input memory; 'fp32' excludes BF16."""
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision == "fp32":
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    bound: list[Array] = []

    def run(clip: Array) -> Array:
        if not bound or bound[0] is not clip:
            request.set_input_tensor(0, openvino.Tensor(clip, shared_memory=True))
            bound[:] = [clip]
        request.infer()
        return np.array(request.get_output_tensor(0).data, dtype=np.float32)

    how = f"LATENCY, {threads} threads, one request, shared input; convolutions run in {_kernels(compiled)}"
    return Subject(name, precision, run, how)


def nncf_defaults(graph: bytes, clips: Sequence[Array]) -> openvino.Model:
    """Quantize the FP32 graph by `nncf.quantize` with its defaults, on at most 300 clips."""
    with _quiet_nncf() as nncf:
        quantized: openvino.Model = nncf.quantize(openvino.Core().read_model(graph), nncf.Dataset(list(clips)))
    if not any(node.get_type_name() == "FakeQuantize" for node in quantized.get_ops()):
        raise ParityError("NNCF quantized no layer; the peer would be the FP32 graph")
    return quantized


def nncf_default_int8(quantized: openvino.Model, clips: Sequence[Array], threads: int) -> Subject:
    """Return the peer: a graph of `nncf_defaults`, quantized on `clips`."""
    subject = openvino_subject("OpenVINO INT8 by NNCF defaults", "int8", quantized, threads)
    how = f"nncf.quantize with no option, {min(len(clips), 300)} clips; {subject.how}"
    return Subject(subject.name, subject.precision, subject.run, how)


def _kernels(compiled: Any) -> str:
    """Return precision and kernel of the convolutions of the compiled model: '37 u8 brgconv_avx512_I8, 1 i8 ...'."""
    kernels: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if info["layerType"].astype(str) == "Convolution":
            kernels[f"{info['runtimePrecision'].astype(str)} {info['primitiveType'].astype(str)}"] += 1
    return ", ".join(f"{count} {name}" for name, count in kernels.most_common()) or "none"


@contextlib.contextmanager
def _quiet_nncf() -> Any:
    """Import NNCF without its log messages, with its progress bars on standard error."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        import nncf

        nncf.set_log_level(logging.ERROR)
        yield nncf
