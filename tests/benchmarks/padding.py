"""`python -m tests.benchmarks.padding`: pruned networks with and without channels padded to multiples of 16.

Candidates of the CPU target with random weights, 2 threads, timed in turns; they differ in a single rewrite.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from edgeact.bench import interleave
from edgeact.devices import load_profile, probe_machine
from edgeact.export.build.measure import open_candidate
from edgeact.export.candidates.candidate import BuildInputs, Candidate
from edgeact.export.cpu import candidates as cpu
from edgeact.export.graph.passes.apply import REWRITES
from edgeact.export.graph.passes.base import Rewrite
from edgeact.export.graph.passes.pad_channels import PadChannels
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from edgeact.export.prune import PruneRequest
from edgeact.export.prune.planning import apply_plan, plan_pruning
from edgeact.export.quantize.calibrator import Calibrator
from tests.export.emitting import emitted

__all__ = ["pruned", "timed"]

_THREADS = 2
_BEST = ("openvino-int8", "openvino-fp16", "native-int8")


def pruned(name: str, ratio: float, width: int, size: int) -> LoadedModel:
    """Load a model and prune `ratio` of its channels, in multiples of 4."""
    model = load_model(name, LoadRequest(random_weights=True, width=width, clip_frames=8, size=size))
    request = PruneRequest(ratio, channel_multiple=4)
    apply_plan(model.module, plan_pruning(model.module, model.clip.input_shape, request, model.weights_sha256))
    return model


def timed(model: LoadedModel, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median latency without and with the rewrite, ms, by artifact."""
    without = tuple(rule for rule in REWRITES if not isinstance(rule, PadChannels))
    candidates = {way: _candidates(model, rules) for way, rules in (("without", without), ("with", REWRITES))}
    clip = np.random.default_rng(0).standard_normal(model.clip.input_shape, dtype=np.float32)
    sessions = {
        (candidate.name, way): open_candidate(candidate, model.clip.input_shape, len(model.labels), _THREADS)
        for way, some in candidates.items()
        for candidate in some
    }
    try:
        runs: dict[str, Callable[[], Any]] = {
            " ".join(key): functools.partial(session.run, clip) for key, session in sessions.items()
        }
        latencies = interleave(runs, rounds)
    finally:
        for session in sessions.values():
            session.close()
    names = dict.fromkeys(name for name, _ in sessions)
    return {name: (latencies[f"{name} without"].p50_ms, latencies[f"{name} with"].p50_ms) for name in names}


def _candidates(model: LoadedModel, rules: Sequence[Rewrite[Any]]) -> list[Candidate]:
    master = to_onnx(model.module, model.clip)
    rng = np.random.default_rng(1)
    clips = [rng.standard_normal(model.clip.input_shape, dtype=np.float32) for _ in range(4)]
    inputs = BuildInputs(
        master=master,
        clip=model.clip,
        profile=load_profile("cpu"),
        samples=clips,
        calibrator=Calibrator(master, clips),
        precisions=("int8", "fp16"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "REWRITES", rules)
        return [candidate for candidate in emitted(inputs)[0] if candidate.name in _BEST and candidate.checked_by]


if __name__ == "__main__":
    machine = probe_machine()
    print(f"{machine.processor}, {_THREADS} threads; ms, medians of 60 runs in turns\n")
    print("| model | artifact | without | with |\n| --- | --- | --- | --- |")
    for model_name, ratio in (("r3d-18", 0.07), ("r3d-18", 0.2)):
        for artifact, (before, after) in timed(pruned(model_name, ratio, 64, 112), 60).items():
            print(f"| {model_name}, {ratio:.0%} pruned | {artifact} | {before:.2f} | {after:.2f} |")
