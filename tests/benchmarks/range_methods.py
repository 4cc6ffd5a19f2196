"""`python -m tests.benchmarks.range_methods`: the shipped model in INT8 with each range method, on the same clips.

The graph is that of the CPU target, without bias correction or layers kept in float for accuracy, in OpenVINO; the
reference is PyTorch. One clip per video, of held-out videos whose persons are neither in calibration nor in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import openvino
import torch
from numpy.typing import NDArray

from edgeact.calibration.clips import sample_clips
from edgeact.calibration.datasets import load_dataset
from edgeact.calibration.evaluation import match_labels
from edgeact.calibration.parity import compare_logits
from edgeact.calibration.range_methods import METHODS
from edgeact.calibration.ranges import Ranges
from edgeact.devices import load_profile, probe_machine
from edgeact.export.build.data import DEFAULT_DATA, split_for_export
from edgeact.export.candidates.candidate import BuildInputs
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.records import Parity
from tests.export.emitting import emitted

__all__ = ["Outcome", "compare", "table"]

_CLIPS = (32, 64, 128)
_HELD_OUT = 480

Clips = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Outcome:
    """Result of a method with a number of calibration clips."""

    clips: int
    ranges: Ranges
    parity: Parity
    correct: int

    def cells(self, count: int, reference: int) -> tuple[str, ...]:
        """Return the cells of a table row; PyTorch classifies `reference` of `count` clips correctly."""
        clipped = max(tensor.clipped for tensor in self.ranges.tensors.values())
        return (
            str(self.clips),
            self.ranges.method,
            f"{self.parity.snr_db:.1f} dB",
            f"{self.parity.top1_agreement:.1%}",
            f"{self.correct / count:.1%}",
            f"{100 * (self.correct - reference) / count:+.1f}",
            f"{clipped:.3%}" if clipped else "0",
            f"{len(self.ranges.unsettled)} of {len(self.ranges.tensors)}",
        )


def compare(model: LoadedModel, calibration: Clips, held_out: Clips, labels: Sequence[int]) -> Iterator[Outcome]:
    """Compare each method, calibrated on `calibration`, with PyTorch on `held_out`, whose classes are `labels`."""
    reference = _in_pytorch(model, held_out)
    master = to_onnx(model.module, model.clip)
    for method in METHODS:
        calibrator = Calibrator(master, calibration, method)
        logits = _in_int8(model, calibrator, held_out)
        parity = compare_logits(reference, logits, "int8")
        yield Outcome(len(calibration), calibrator.ranges, parity, _correct(logits, labels))


def table() -> str:
    """Return the comparison on the shipped model as a Markdown table."""
    model = load_model(None, LoadRequest())
    split = split_for_export(match_labels(load_dataset(DEFAULT_DATA), model.labels))
    held_out = sample_clips(split.evaluation, model.clip, _HELD_OUT)
    labels = [item.label for item in held_out.items]
    reference = _correct(_in_pytorch(model, held_out.inputs), labels)
    titles = ("clips", "method", "SNR", "same top-1", "top-1", "points", "most clipped", "not settled")
    lines = [f"| {' | '.join(titles)} |", f"| {' | '.join('---' for _ in titles)} |"]
    for clips in _CLIPS:
        sample = sample_clips(split.calibration, model.clip, clips)
        for outcome in compare(model, sample.inputs, held_out.inputs, labels):
            lines.append(f"| {' | '.join(outcome.cells(len(labels), reference))} |")
    machine = probe_machine(("openvino", "torch"))
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    top1 = f"Top-1 of PyTorch: {reference / len(labels):.1%} of {len(labels)} held-out clips"
    return "\n".join([*lines, "", f"{top1}. {machine.processor}; {versions}."])


def _in_pytorch(model: LoadedModel, clips: Clips) -> NDArray[np.float32]:
    with torch.no_grad():
        return np.concatenate([model.module(torch.from_numpy(clip)).numpy() for clip in clips])


def _in_int8(model: LoadedModel, calibrator: Calibrator, clips: Clips) -> NDArray[np.float32]:
    inputs = BuildInputs(
        master=calibrator.master,
        clip=model.clip,
        profile=load_profile("cpu"),
        samples=calibrator.clips[:1],
        calibrator=calibrator,
        precisions=("int8",),
    )
    candidates, _ = emitted(inputs)
    candidate = next(candidate for candidate in candidates if "openvino" in candidate.artifact.backends)
    graph, weights = candidate.member("graph"), candidate.member("weights")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(graph, weights), "CPU")
    return np.concatenate([compiled(clip)[0] for clip in clips])


def _correct(logits: NDArray[np.float32], labels: Sequence[int]) -> int:
    return int((logits.argmax(axis=1) == np.asarray(labels)).sum())


if __name__ == "__main__":
    print(table())
