"""Kernels of a CPU that do not compute what an INT8 graph states, as distinct from an INT8 graph that is not accurate.

Such kernels saturate, or quantize a tensor twice. Mixed precision does not cure that, and its search would be in vain.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeact.calibration.parity import compare_logits
from edgeact.errors import ConversionError, DeviceError, ModelError
from edgeact.export.build.measure import Meter
from edgeact.export.candidates.candidate import Candidate, TargetGraph
from edgeact.export.graph.run import GraphRunner
from edgeact.export.graph.values import name_of
from edgeact.export.quantize.fold_weights import fold_weights
from edgeact.reasons import KernelsInexact
from edgeact.runtime.self_check import int8_limit_db, logits_snr_db

__all__ = ["with_inexact_kernels"]

_CLIPS = 4

Array = npt.NDArray[np.float32]


def with_inexact_kernels(
    candidates: Sequence[Candidate], graphs: Sequence[TargetGraph], meter: Meter
) -> tuple[Candidate, ...]:
    """Return the compared candidates of a CPU, those marked whose kernels are far from the exact INT8 graph.

    The graph is computed exactly, which takes long, only if a candidate does not agree with PyTorch, or if backends
    disagree with each other on the golden clip. A graph that is not accurate itself excuses every kernel.
    """
    marked = tuple(candidates)
    for graph in graphs:
        rivals = [each for each in marked if each.precision == graph.precision == "int8" and each.label == graph.label]
        compared = [each for each in rivals if each.parity is not None]
        if _is_suspicious(compared):
            findings = _examine(compared, graph, meter)
            marked = tuple(replace(each, inexact=findings.get(each.name, each.inexact)) for each in marked)
    return marked


def _is_suspicious(candidates: Sequence[Candidate]) -> bool:
    if any(candidate.parity is not None and not candidate.parity.passed for candidate in candidates):
        return True
    logits = [each.artifact.golden_logits for each in candidates if each.artifact.golden_logits]
    return any(logits_snr_db(*pair) < int8_limit_db() for pair in itertools.combinations(logits, 2))


def _examine(candidates: Sequence[Candidate], graph: TargetGraph, meter: Meter) -> dict[str, KernelsInexact]:
    """Return what is wrong with the kernels of each candidate, by name; nothing if the graph itself is not accurate."""
    clips = meter.data.parity.inputs[:_CLIPS]
    pytorch = meter.reference_logits(clips)
    try:
        exact = _exact_logits(graph, clips)
    except ConversionError:
        return {}
    parity = compare_logits(pytorch, exact, "int8", trained=meter.model.trained)
    if not parity.passed:
        return {}
    limit_db = int8_limit_db(parity.snr_db)
    findings = {}
    for candidate in candidates:
        try:
            with meter.open(candidate) as session:
                logits = np.concatenate([session.run(clip).logits for clip in clips])
        except (DeviceError, ModelError):
            continue
        snr_db = logits_snr_db(exact, logits)
        if snr_db < limit_db:
            findings[candidate.name] = KernelsInexact(
                backend=candidate.artifact.backends[0],
                clips=len(clips),
                snr_db=snr_db,
                snr_limit_db=limit_db,
                exact_snr_db=parity.snr_db,
            )
    return findings


def _exact_logits(graph: TargetGraph, clips: Sequence[Array]) -> Array:
    """Return the logits (clips, classes) of the graph in exact integers."""
    model = fold_weights(graph.model)
    runner = GraphRunner(model)
    (source,), (output,) = model.graph.inputs, model.graph.outputs
    return np.concatenate([runner.run([name_of(output)], {name_of(source): clip})[0] for clip in clips])
