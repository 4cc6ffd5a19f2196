"""A single calibration serves every graph of a model; only tensors that a rewrite adds are observed again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgeact.calibration.range_cache import RangeCache
from edgeact.calibration.range_methods import MethodName
from edgeact.calibration.ranges import Ranges
from edgeact.devices import load_profile
from edgeact.export.graph.passes.apply import REWRITES, apply_rewrites
from edgeact.export.graph.torch_to_onnx import at_opset
from edgeact.export.quantize import calibrator as module
from edgeact.export.quantize.activation_ranges import RANGES_VERSION, collect_ranges, observe, quantized_tensors
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.exclusions import target_exclusions
from edgeact.export.quantize.qdq import quantize
from tests.export.graph.exported import exported, random_clips
from tests.export.graph.graphs import graph, node

GOLDEN: dict[MethodName, dict[str, tuple[float, float, float]]] = {
    "minmax": {
        "x": (-3.90625, 3.25, 3.90625),
        "y0": (-3.95703125, 5.01953125, 5.01953125),
        "r": (0.0, 5.01953125, 5.01953125),
        "y": (-2.0673828125, 3.6142578125, 3.6142578125),
    },
    "percentile": {
        "x": (-3.90625, 3.25, 3.90625),
        "y0": (-3.95703125, 5.01953125, 5.017131328582764),
        "r": (0.0, 5.01953125, 5.017131328582764),
        "y": (-2.0673828125, 3.6142578125, 3.6136577129364014),
    },
    "entropy": {
        "x": (-3.90625, 3.25, 3.204345703125),
        "y0": (-3.95703125, 5.01953125, 3.6077880859375),
        "r": (0.0, 5.01953125, 3.6077880859375),
        "y": (-2.0673828125, 3.6142578125, 2.7954025268554688),
    },
    "mse": {
        "x": (-3.90625, 3.25, 3.76094913482666),
        "y0": (-3.95703125, 5.01953125, 4.83281946182251),
        "r": (0.0, 5.01953125, 4.9386444091796875),
        "y": (-2.0673828125, 3.6142578125, 3.4610252380371094),
    },
}
"""Method -> tensor -> lowest value, highest value, limit, of ranges of version 1."""


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the names of the tensors of every observation, in order."""
    calls: list[list[str]] = []

    def watched(model: ir.Model, layers: dict[str, str], *rest: Any) -> Ranges:
        calls.append(list(layers))
        return observe(model, layers, *rest)

    monkeypatch.setattr(module, "observe", watched)
    return calls


def test_opsets_and_boards_share_one_calibration(observed: list[list[str]]) -> None:
    case = exported("msf-r3d-fsam")
    calibrator = Calibrator(case.graph, random_clips(case.clip, 4))
    for board, opset in (("cpu", 17), ("jetson", 13), ("rtx-4090", 17)):
        graph = at_opset(case.graph, opset)
        excluded = target_exclusions(graph, load_profile(board))
        assert quantized_tensors(graph, excluded).keys() <= calibrator.ranges_for(graph, excluded).tensors.keys()
    assert len(observed) == 1


@pytest.mark.slow
def test_only_tensors_that_a_rewrite_adds_are_observed(observed: list[list[str]]) -> None:
    case = exported("msf-r3d-fsam")
    clips = random_clips(case.clip, 4)
    graph, outcomes = apply_rewrites(case.graph, REWRITES)
    assert any(outcome.is_applied for outcome in outcomes)
    excluded = target_exclusions(graph, load_profile("cpu"))
    calibrator = Calibrator(case.graph, clips)
    ranges = calibrator.ranges_for(graph, excluded)
    assert len(observed) == 2
    needed = quantized_tensors(graph, excluded)
    assert 0 < len(observed[1]) < len(needed)
    direct = collect_ranges(graph, clips, excluded=excluded)
    for name, tensor in direct.tensors.items():
        assert ranges.tensors[name].limit == pytest.approx(tensor.limit, rel=1e-4), name
    quantize(graph, ranges, excluded)


def test_a_tensor_of_another_shape_is_another_tensor(observed: list[list[str]]) -> None:
    """A rewrite that pads channels may keep the name."""
    case = exported("cnn3d-gate")
    calibrator = Calibrator(case.graph, random_clips(case.clip, 2))
    wider = exported("cnn3d-gate", 16)
    ranges = calibrator.ranges_for(wider.graph, ())
    direct = collect_ranges(wider.graph, random_clips(case.clip, 2))
    assert len(observed) == 2
    assert {name: ranges.tensors[name].limit for name in observed[1]} == {
        name: direct.tensors[name].limit for name in observed[1]
    }
    assert observed[1]


def test_a_second_calibration_comes_from_the_cache(observed: list[list[str]], tmp_path: Path) -> None:
    case = exported("cnn3d-gate")
    clips = random_clips(case.clip, 4)

    def calibrate(clips: Sequence[NDArray[np.float32]], method: MethodName = "minmax", width: int = 8) -> Ranges:
        return Calibrator(exported("cnn3d-gate", width).graph, clips, method, RangeCache(tmp_path)).ranges

    first = calibrate(clips)
    assert calibrate(clips) == first
    assert len(observed) == 1
    (entry,) = tmp_path.iterdir()
    entry.write_text(entry.read_text().replace('"clips":4', '"clips":5'))
    assert calibrate(clips) == first
    assert len(observed) == 2
    calibrate(clips[::-1])
    calibrate(clips[:3])
    calibrate([clips[0], clips[1], clips[2], clips[3] * np.float32(1.001)])
    calibrate(clips, "mse")
    calibrate(clips, width=16)
    assert len(observed) == 7
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("method", GOLDEN)
def test_ranges_of_this_version_have_these_values(method: MethodName) -> None:
    """If they change, cached ranges are outdated: raise RANGES_VERSION, which is part of the key, with the values."""
    assert RANGES_VERSION == 1
    nodes = [
        node("Conv", ["x", "w"], ["y0"], "conv", kernel_shape=[1, 1, 1]),
        node("Relu", ["y0"], ["r"]),
        node("Conv", ["r", "v"], ["y"], "head", kernel_shape=[1, 1, 1]),
    ]
    rng = np.random.default_rng(0)
    weights = {name: rng.integers(-3, 4, (4, 4, 1, 1, 1)).astype(np.float32) / 4 for name in ("w", "v")}
    # Multiples of 1/64 that float32 adds without rounding: the same sums on every CPU.
    drawn = np.rint(rng.standard_normal((6, 1, 4, 4, 8, 8)) * 64) / 64
    ranges = Calibrator(graph(nodes, weights, shape=(1, 4, 4, 8, 8)), list(drawn.astype(np.float32)), method).ranges
    values = {name: (tensor.low, tensor.high, tensor.limit) for name, tensor in ranges.tensors.items()}
    assert values == GOLDEN[method]


def test_ranges_of_another_version_are_observed_anew(
    observed: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = exported("cnn3d-gate")
    clips = random_clips(case.clip, 2)
    for version in ("1", "2", "1"):
        monkeypatch.setitem(module._VERSIONS, "ranges", version)
        assert Calibrator(case.graph, clips, cache=RangeCache(tmp_path)).ranges.clips == 2
    assert len(observed) == 2
