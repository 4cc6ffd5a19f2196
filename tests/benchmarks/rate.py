"""Arithmetic throughput of the unpruned bundle relative to large INT8 matrix products of libraries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino
import openvino.opset13 as ops
import torch

from edgeact.bench import interleave
from edgeact.bundle import open_bundle
from edgeact.runtime import load
from tests.benchmarks.family import limits_of
from tests.benchmarks.records import BenchRow
from tests.benchmarks.workspace import Workspace

__all__ = ["openvino_product", "rate", "torch_product"]

_SIZES = (1024, 2048, 4096)
_ROUNDS = 12


def rate(workspace: Workspace) -> list[BenchRow]:
    """Measure operations per second of the bundle and of matrix products, all in turns in one process."""
    path = workspace.export("cpu").path
    threads, sizes = workspace.settings.threads, _SIZES if workspace.settings.limits_apply else (64,)
    torch.set_num_threads(threads)
    workspace.on_step("timing large INT8 matrix products")
    runs: dict[str, Callable[[], object]] = {}
    operations = {"bundle": 2.0 * open_bundle(path).manifest.model.macs}
    with load(str(path), threads=threads) as recognizer:
        clip = workspace.data.parity.inputs[0]
        runs["bundle"] = lambda: recognizer.session.run(clip)
        for size in sizes:
            runs[f"torch._int_mm {size}"] = torch_product(size)
            runs[f"OpenVINO INT8 MatMul {size}"] = openvino_product(size, threads)
            operations |= dict.fromkeys((f"torch._int_mm {size}", f"OpenVINO INT8 MatMul {size}"), 2.0 * size**3)
        settled = {name: run for key, call in runs.items() for name, run in ((f"{key}, settling", call), (key, call))}
        latencies = interleave(settled, min(_ROUNDS, workspace.settings.rounds))
    tops = {name: operations[name] / latencies[name].p50_ms / 1e9 for name in runs}
    best = max((name for name in tops if name != "bundle"), key=lambda name: tops[name])
    how = f"{tops['bundle']:.2f} TOPS, multiply-accumulates of the plain model, against {tops[best]:.2f} of {best}"
    share = BenchRow(
        name="rate, bundle / best INT8 product", value=tops["bundle"] / tops[best], unit="", comparison=">=", how=how
    )
    rows = [
        BenchRow(name=f"rate, {name}", value=value, unit="TOPS", how=f"median of {latencies[name].runs} runs in turns")
        for name, value in tops.items()
    ]
    limit = limits_of(workspace.machine).rate
    return [share if limit is None else share.judged(limit, applies=workspace.settings.limits_apply), *rows]


def torch_product(size: int) -> Callable[[], object]:
    """Return `torch._int_mm` of two square int8 matrices into int32, the second column-major, which is faster."""
    left, right = (torch.randint(-128, 128, (size, size), dtype=torch.int8) for _ in range(2))
    columns = right.t().contiguous().t()
    return lambda: torch._int_mm(left, columns)


def openvino_product(size: int, threads: int) -> Callable[[], object]:
    """Return OpenVINO's product of square uint8 activations and constant int8 weights, quantized to int8.

    This is the fastest form: signed or float activations and float results take longer.
    """
    weights = np.random.default_rng(0).integers(-127, 128, (size, size)).astype(np.int8)
    activations = ops.parameter([size, size], np.uint8)
    scale, low, high = (ops.constant(np.float32(value)) for value in (0.01, -12.8, 12.7))
    product = ops.matmul(
        ops.multiply(ops.convert(activations, np.float32), scale),
        ops.multiply(ops.convert(ops.constant(weights), np.float32), scale),
        False,
        True,
    )
    output_range = (ops.constant(np.float32(-128)), ops.constant(np.float32(127)))
    result = ops.convert(ops.fake_quantize(product, low, high, *output_range, 256), np.int8)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(openvino.Model([ops.result(result)], [activations]), "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(0, openvino.Tensor(np.ones((size, size), np.uint8)))
    return lambda: request.infer()
