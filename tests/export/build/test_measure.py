"""Measuring real graphs, good and broken ones."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgeact.export.build.data import ExportData
from edgeact.export.build.measure import Meter, time_candidates
from edgeact.export.build.state import Reference
from edgeact.export.candidates.candidate import Candidate
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.values import constant_array
from edgeact.export.models.loading import LoadedModel
from edgeact.progress import TIMED_STEP, Callbacks
from tests.export.build.making import onnx_file


def _perturbed(master: ir.Model, change: float) -> bytes:
    """The graph with `change` times noise of their own size on all weights."""
    model = master.clone()
    rng = np.random.default_rng(0)
    for constant in model.graph.initializers.values():
        value = constant_array(constant)
        if value is not None and value.dtype == np.float32 and value.size > 4:
            noise = rng.standard_normal(value.shape).astype(np.float32) * np.abs(value).max()
            constant.const_value = ir.tensor(value + np.float32(change) * noise)
    return to_bytes(model)


@pytest.fixture
def meter(colours: LoadedModel, colour_data: ExportData) -> Meter:
    return Meter(colours, colour_data, 1)


@pytest.fixture
def references(colours: LoadedModel) -> tuple[Reference, ...]:
    return (Reference("pytorch", colours, "parity"),)


@pytest.fixture
def good(colour_master: ir.Model) -> Candidate:
    return onnx_file("good", "fp32", to_bytes(colour_master))


@pytest.mark.slow
def test_a_graph_with_other_weights_disagrees_and_is_not_measured_further(
    meter: Meter, references: tuple[Reference, ...], good: Candidate, colour_master: ir.Model
) -> None:
    off = onnx_file("off", "fp32", _perturbed(colour_master, 0.01))
    (good, off), references = meter.score(meter.compare([good, off]), references)
    (good, off), (reference,) = meter.time([good, off], references, ())
    assert good.agrees
    assert not off.agrees
    assert good.parity is not None
    assert good.parity.clips == len(meter.data.parity)
    assert good.accuracy
    assert good.latency
    assert reference.accuracy
    assert reference.latency
    assert (off.accuracy, off.recognized, off.latency) == ((), (), None)


@pytest.mark.parametrize(
    ("graph", "reason"), [(b"no graph", "onnxruntime failed"), (float("nan"), "expected finite logits")]
)
def test_a_graph_that_does_not_run_fails_alone(
    meter: Meter, good: Candidate, colour_master: ir.Model, graph: bytes | float, reason: str
) -> None:
    data = graph if isinstance(graph, bytes) else _perturbed(colour_master, graph)
    broken, good = meter.compare([onnx_file("broken", "fp32", data), good])
    assert broken.run_error is not None
    assert reason in broken.run_error
    assert good.agrees


@pytest.mark.slow
def test_refused_candidates_do_not_decide_which_others_are_timed_in_turns() -> None:
    """The limit of nearness counts from the fastest that may be chosen: the others meet the same drift, in turns."""
    times = {"refused": 0.001, "slow": 0.011, "slower": 0.012}
    candidates = [onnx_file(name, "fp32", b"") for name in times]

    class Sleeping:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, _clip: object) -> None:
            time.sleep(times[self.name])

    @contextlib.contextmanager
    def opened(candidate: Candidate) -> Iterator[Any]:
        yield Sleeping(candidate.name)

    def runs(refused: tuple[str, ...]) -> dict[str, int]:
        latencies = time_candidates(candidates, opened, np.zeros(1), 1, None, refused)  # type: ignore[arg-type]
        return {name: latency.runs for name, latency in zip(times, latencies, strict=True)}

    careless, careful = runs(()), runs(("refused",))
    assert careful["slow"] == careful["slower"] > max(careless["slow"], careless["slower"])


def test_all_candidates_and_pytorch_see_the_same_clips(
    meter: Meter, references: tuple[Reference, ...], good: Candidate
) -> None:
    again = onnx_file("again", "fp32", good.member("graph") or b"")
    (first, second), (reference,) = meter.score(meter.compare([good, again]), references)
    assert first.accuracy == second.accuracy == reference.accuracy
    assert first.recognized == second.recognized == reference.recognized
    clips, videos = first.accuracy
    assert clips.count == 2 * videos.count  # a second of video holds two clips of half a second
    assert len(first.recognized) == videos.count


def test_accuracy_is_not_measured_if_the_labels_are_not_the_models(
    colours: LoadedModel, colour_data: ExportData, good: Candidate
) -> None:
    meter = Meter(colours, replace(colour_data, source=None), 1)
    (checked,), _ = meter.score(meter.compare([good]), ())
    assert checked.agrees
    assert checked.accuracy == ()


def test_an_engine_takes_the_figures_of_its_graph(meter: Meter, good: Candidate) -> None:
    engine = replace(good, artifact=good.artifact.model_copy(update={"name": "engine"}), checked_by=None)
    engine = replace(engine, compiled_from=good)
    compared, graph = meter.compare([engine, good])
    assert compared.judged is graph
    assert compared.agrees
    assert compared.parity is None


@pytest.mark.slow
def test_every_long_step_reports_progress(
    colours: LoadedModel, colour_data: ExportData, references: tuple[Reference, ...], good: Candidate
) -> None:
    seen: dict[str, tuple[int, int]] = {}
    callbacks = Callbacks(lambda title, done, total: seen.update({title: (done, total)}))
    meter = Meter(colours, colour_data, 1, callbacks)
    checked, measured = meter.score(meter.compare([good]), references)
    meter.time(checked, measured, ())
    videos = len(colour_data.evaluation)
    assert seen == {"parity with PyTorch": (1, 1), "accuracy": (videos, videos), TIMED_STEP: (3, 3)}
