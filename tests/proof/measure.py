"""Measures the trained subjects in FP32 and INT8, and what attention costs at full size."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino
import torch

from edgeact.bench import interleave, median_interval
from edgeact.calibration.accuracy import DataSource, Scores, collect_scores, summarize
from edgeact.calibration.datasets import Dataset
from edgeact.calibration.evaluation import match_labels
from edgeact.export.build import DataPlan, Recipe, build
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.cost import measure_cost
from edgeact.export.models.loading import LoadRequest, load_model
from edgeact.precision import Precision
from edgeact.records import Latency
from edgeact.runtime import Recognizer, load
from tests.benchmarks.subjects import openvino_subject
from tests.proof.plan import DATA, Cost, Subject
from tests.proof.records import CostRow, TrainedRow

__all__ = ["cost_rows", "timed_again", "trained_rows"]

_PRECISIONS: tuple[Precision, Precision] = ("fp32", "int8")
_EXPORT_VIDEOS = 24  # accuracy during an export; the whole test split is evaluated once all bundles exist
Array = npt.NDArray[np.float32]
Run = Callable[[Array], Array]
OnStep = Callable[[str], None]
Key = tuple[Subject, Precision]
Opened = dict[Key, Recognizer]


def trained_rows(
    weights: dict[Subject, Path], dataset: Dataset, folder: Path, rounds: int, on_step: OnStep
) -> tuple[TrainedRow, ...]:
    """Export every subject in FP32 and INT8, evaluate on the whole test split, and time all interleaved."""
    with contextlib.ExitStack() as stack:
        opened = _opened(weights, folder, stack, on_step)
        scores = _scores(list(weights), opened, dataset, on_step)
        on_step("timing all interleaved")
        latencies = _timed(opened, rounds)
        return tuple(_row(subject, opened, scores, latencies, dataset) for subject in weights)


def timed_again(
    rows: Sequence[TrainedRow], weights: dict[Subject, Path], folder: Path, rounds: int, on_step: OnStep
) -> tuple[TrainedRow, ...]:
    """Return `rows` with new latencies, for a machine that was busy the first time."""
    with contextlib.ExitStack() as stack:
        opened = _opened(weights, folder, stack, on_step)
        on_step("timing all interleaved")
        latencies = _timed(opened, rounds)
    subjects = {subject.name: subject for subject in weights}
    return tuple(
        row.model_copy(update={"latency_ms": {p: latencies[subjects[row.name], p].p50_ms for p in _PRECISIONS}})
        for row in rows
    )


def _opened(weights: dict[Subject, Path], folder: Path, stack: contextlib.ExitStack, on_step: OnStep) -> Opened:
    opened: Opened = {}
    for subject, file in weights.items():
        for precision in _PRECISIONS:
            on_step(f"exporting {subject.name} in {precision}")
            bundle = _exported(subject, file, precision, folder)
            opened[subject, precision] = stack.enter_context(load(bundle))
    return opened


def _exported(subject: Subject, weights: Path, precision: Precision, folder: Path) -> Path:
    out = folder / f"{subject.name}-{precision}.edgeact"
    recipe = Recipe(
        target="cpu",
        source=subject.model,
        load=LoadRequest(weights=weights),
        precision=precision,
        data=DataPlan(DATA, evaluation_videos=_EXPORT_VIDEOS),
        max_drop_points=100.0,  # few videos: the accuracy drop is measured on all afterwards
    )
    build(recipe, out=out)
    return out


def _scores(
    subjects: Sequence[Subject],
    opened: Opened,
    dataset: Dataset,
    on_step: OnStep,
) -> dict[Key, Scores]:
    """Return the scores of every subject in both precisions; clips are read per subject, since contracts differ."""
    scores: dict[Key, Scores] = {}
    for subject in subjects:
        on_step(f"evaluating {subject.name}")
        recognizer = opened[subject, "fp32"]
        items = match_labels(dataset, recognizer.labels).split("test")
        runs: dict[str, Run] = {precision: _run(opened[subject, precision], subject) for precision in _PRECISIONS}
        collected = collect_scores(runs, items, recognizer.clip)
        scores |= {(subject, precision): collected[precision] for precision in _PRECISIONS}
    return scores


def _run(recognizer: Recognizer, subject: Subject) -> Run:
    if subject.single_frame_of is None:
        return recognizer.logits
    middle = recognizer.clip.clip_frames // 2
    return lambda clip: recognizer.logits(np.repeat(clip[:, :, [middle]], clip.shape[2], axis=2))


def _timed(opened: Opened, rounds: int) -> dict[Key, Latency]:
    """Return latencies; each timed run follows an untimed run, since threads of the previous subject may still spin."""
    runs: dict[str, Callable[[], object]] = {}
    for (subject, precision), recognizer in opened.items():
        clip = np.zeros(recognizer.clip.input_shape, np.float32)
        run = lambda recognizer=recognizer, clip=clip: recognizer.logits(clip)  # noqa: E731
        runs[f"{subject.name} {precision} warm-up"] = run
        runs[f"{subject.name} {precision}"] = run
    latencies = interleave(runs, rounds)
    return {key: latencies[f"{key[0].name} {key[1]}"] for key in opened}


def _row(
    subject: Subject,
    opened: Opened,
    scores: dict[Key, Scores],
    latencies: dict[Key, Latency],
    dataset: Dataset,
) -> TrainedRow:
    source = DataSource(dataset.name, "test", dataset.digest("test"), opened[subject, "fp32"].labels)
    accuracy = {p: summarize(scores[subject, p], source)[0] for p in _PRECISIONS}
    correct = {}
    for precision in _PRECISIONS:
        probabilities, labels = scores[subject, precision].clips()
        correct[precision] = probabilities.argmax(axis=1) == labels
    return TrainedRow(
        name=subject.name,
        paper=subject.paper,
        epochs=sum(phase.epochs for phase in subject.phases),
        parameters=opened[subject, "fp32"].manifest.model.parameters,
        clips=accuracy["fp32"].count,
        top1={p: accuracy[p].top1 for p in _PRECISIONS},
        interval={p: accuracy[p].top1_interval for p in _PRECISIONS},
        lost=int((correct["fp32"] & ~correct["int8"]).sum()),
        won=int((~correct["fp32"] & correct["int8"]).sum()),
        latency_ms={p: latencies[subject, p].p50_ms for p in _PRECISIONS},
        artifact={p: opened[subject, p].choice.artifact for p in _PRECISIONS},
    )


def cost_rows(costs: Sequence[Cost], rounds: int, on_step: OnStep) -> tuple[CostRow, ...]:
    """Measure FP32 latencies of full-size networks in OpenVINO, random weights, each comparison interleaved."""
    threads = torch.get_num_threads()
    rows: list[CostRow] = []
    for cost in costs:
        runs: dict[str, Callable[[], object]] = {}
        macs: dict[str, int] = {}
        for name in cost.models:
            on_step(f"converting {name}")
            model = load_model(name, LoadRequest(random_weights=True))
            macs[name] = measure_cost(model.module, model.clip.input_shape).macs
            graph = openvino.Core().read_model(to_bytes(to_onnx(model.module, model.clip)))
            subject, clip = openvino_subject(name, "fp32", graph, threads), np.zeros(model.clip.input_shape, np.float32)
            runs[name] = lambda subject=subject, clip=clip: subject.run(clip)  # type: ignore[misc]
        on_step(f"timing {len(runs)} networks interleaved")
        latencies = interleave(runs, rounds)
        rows += [
            CostRow(
                paper=cost.paper,
                model=name,
                latency_ms=latencies[name].p50_ms,
                interval=median_interval(latencies[name].samples_ms),
                macs=macs[name],
            )
            for name in cost.models
        ]
    return tuple(rows)
