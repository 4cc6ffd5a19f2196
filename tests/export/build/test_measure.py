"""Measuring real graphs, good and broken ones."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeact.export.build.data import ExportData
from edgeact.export.build.measure import REFERENCE, Meter, time_variants
from edgeact.export.candidates.candidate import Variant, onnx_variant
from edgeact.export.models.loading import LoadedModel
from edgeact.progress import TIMED_STEP


def _perturbed(master: onnx.ModelProto, change: float) -> bytes:
    """The graph with `change` times noise of their own size on all weights."""
    model = onnx.ModelProto()
    model.CopyFrom(master)
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size > 4:
            noise = rng.standard_normal(value.shape).astype(np.float32) * np.abs(value).max()
            tensor.CopyFrom(numpy_helper.from_array(value + np.float32(change) * noise, tensor.name))
    return bytes(model.SerializeToString())


@pytest.fixture
def meter(colours: LoadedModel, colour_data: ExportData) -> Meter:
    return Meter(colours, colour_data, 1, lambda _title, _done, _total: None)


@pytest.fixture
def good(colour_master: onnx.ModelProto) -> Variant:
    return onnx_variant("good", "fp32", colour_master.SerializeToString())


def test_a_graph_with_other_weights_disagrees_and_is_not_measured_further(
    meter: Meter, good: Variant, colour_master: onnx.ModelProto
) -> None:
    off = onnx_variant("off", "fp32", _perturbed(colour_master, 0.01))
    measured = meter.measure([good, off], with_latency=True)
    assert measured.agrees(good)
    assert not measured.agrees(off)
    assert set(measured.accuracies) == set(measured.latencies) == {REFERENCE, "good"}
    assert measured.parities["good"].clips == len(meter.data.parity)


@pytest.mark.parametrize(
    ("graph", "reason"), [(b"no graph", "onnxruntime failed"), (float("nan"), "expected finite logits")]
)
def test_a_graph_that_does_not_run_fails_alone(
    meter: Meter, good: Variant, colour_master: onnx.ModelProto, graph: bytes | float, reason: str
) -> None:
    data = graph if isinstance(graph, bytes) else _perturbed(colour_master, graph)
    measured = meter.measure([onnx_variant("broken", "fp32", data), good], with_latency=False)
    assert reason in measured.failures["broken"]
    assert measured.agrees(good)


def test_what_cannot_ship_does_not_decide_what_is_timed_with_care() -> None:
    """The limit of nearness counts from the fastest that may be chosen: the others meet the same drift, in turns."""
    times = {"refused": 0.001, "slow": 0.011, "slower": 0.012}
    variants = [onnx_variant(name, "fp32", b"") for name in times]

    class Sleeping:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, _clip: object) -> None:
            time.sleep(times[self.name])

    @contextlib.contextmanager
    def opened(variant: Variant) -> Iterator[Any]:
        yield Sleeping(variant.artifact.name)

    def runs(refused: tuple[str, ...]) -> dict[str, int]:
        found = time_variants(variants, opened, np.zeros(1), 1, None, refused)  # type: ignore[arg-type]
        return {name: latency.runs for name, latency in found.items()}

    careless, careful = runs(()), runs(("refused",))
    assert careful["slow"] == careful["slower"] > max(careless["slow"], careless["slower"])


def test_all_variants_and_pytorch_see_the_same_clips(meter: Meter, good: Variant) -> None:
    again = onnx_variant("again", "fp32", good.member("graph") or b"")
    accuracies = meter.measure([good, again], with_latency=False).accuracies
    assert set(accuracies) == {REFERENCE, "good", "again"}
    assert accuracies["good"] == accuracies["again"] == accuracies[REFERENCE]
    clips, videos = accuracies["good"]
    assert clips.count == 2 * videos.count  # a second of video holds two clips of half a second


def test_accuracy_is_left_out_where_the_labels_are_not_the_models(
    colours: LoadedModel, colour_data: ExportData, good: Variant
) -> None:
    meter = Meter(colours, replace(colour_data, source=None), 1, lambda _title, _done, _total: None)
    assert meter.measure([good], with_latency=False).accuracies == {}


def test_progress_tells_every_long_step(colours: LoadedModel, colour_data: ExportData, good: Variant) -> None:
    seen: dict[str, tuple[int, int]] = {}
    Meter(colours, colour_data, 1, lambda title, done, total: seen.update({title: (done, total)})).measure(
        [good], with_latency=True
    )
    videos = len(colour_data.evaluation)
    assert seen == {"agreement with PyTorch": (1, 1), "accuracy": (videos, videos), TIMED_STEP: (3, 3)}
