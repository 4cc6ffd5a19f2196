"""How much of the arithmetic that libraries reach in large INT8 matrix products the unpruned bundle reaches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino
import openvino.opset13 as ops
import torch

from edgeact.bench import interleave
from edgeact.bundle import open_bundle
from edgeact.runtime import load
from tests.benchmarks.records import BenchRow
from tests.benchmarks.workshop import Workshop

__all__ = ["openvino_product", "rate", "torch_product"]

_SHARE = 0.9
_SIZES = (1024, 2048, 4096)
_ROUNDS = 12


def rate(shop: Workshop) -> list[BenchRow]:
    """Operations a second of the bundle over those of the fastest product, all in turns in one process."""
    path = shop.export("cpu").path
    threads, sizes = shop.settings.threads, _SIZES if shop.settings.limits_apply else (64,)
    torch.set_num_threads(threads)
    shop.on_step("timing large INT8 matrix products")
    runs: dict[str, Callable[[], object]] = {}
    operations = {"bundle": 2.0 * open_bundle(path).manifest.model.macs}
    with load(str(path), threads=threads) as recognizer:
        clip = shop.data.parity.inputs[0]
        runs["bundle"] = lambda: recognizer.session.run(clip)
        for size in sizes:
            runs[f"torch._int_mm {size}"] = torch_product(size)
            runs[f"OpenVINO INT8 MatMul {size}"] = openvino_product(size, threads)
            operations |= dict.fromkeys((f"torch._int_mm {size}", f"OpenVINO INT8 MatMul {size}"), 2.0 * size**3)
        settled = {name: run for key, call in runs.items() for name, run in ((f"{key}, settling", call), (key, call))}
        taken = interleave(settled, min(_ROUNDS, shop.settings.rounds))
    tops = {name: operations[name] / taken[name].p50_ms / 1e9 for name in runs}
    best = max((name for name in tops if name != "bundle"), key=lambda name: tops[name])
    how = f"{tops['bundle']:.2f} TOPS, multiply-accumulates of the plain model, against {tops[best]:.2f} of {best}"
    share = BenchRow(
        name="rate, bundle / best INT8 product", value=tops["bundle"] / tops[best], unit="", comparison=">=", how=how
    )
    rows = [
        BenchRow(name=f"rate, {name}", value=value, unit="TOPS", how=f"median of {taken[name].runs} runs in turns")
        for name, value in tops.items()
    ]
    return [share.judged(_SHARE, applies=shop.settings.limits_apply), *rows]


def torch_product(size: int) -> Callable[[], object]:
    """`torch._int_mm` of two square int8 matrices into int32, the second stored by columns, which is faster."""
    left, right = (torch.randint(-128, 128, (size, size), dtype=torch.int8) for _ in range(2))
    columns = right.t().contiguous().t()
    return lambda: torch._int_mm(left, columns)


def openvino_product(size: int, threads: int) -> Callable[[], object]:
    """OpenVINO's product of unsigned 8-bit activations by constant int8 weights, both square, rounded back to int8.

    The fastest of its forms: signed or float activations and float results take longer.
    """
    weights = np.random.default_rng(0).integers(-127, 128, (size, size)).astype(np.int8)
    features = ops.parameter([size, size], np.uint8)
    scale, low, high = (ops.constant(np.float32(value)) for value in (0.01, -12.8, 12.7))
    product = ops.matmul(
        ops.multiply(ops.convert(features, np.float32), scale),
        ops.multiply(ops.convert(ops.constant(weights), np.float32), scale),
        False,
        True,
    )
    steps = (ops.constant(np.float32(-128)), ops.constant(np.float32(127)))
    result = ops.convert(ops.fake_quantize(product, low, high, *steps, 256), np.int8)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(openvino.Model([ops.result(result)], [features]), "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(0, openvino.Tensor(np.ones((size, size), np.uint8)))
    return lambda: request.infer()
