"""Ranges for all graphs of one model: its master is calibrated once, and what a rewrite made anew is added."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from edgeact.calibration.range_methods import MethodName
from edgeact.calibration.ranges import Ranges
from edgeact.export.convert.graph_view import GraphView, view
from edgeact.export.quantize.ranges import observe, quantized_tensors
from edgeact.export.quantize.skip import float_everywhere

__all__ = ["Calibrator"]


@dataclass(frozen=True)
class Calibrator:
    """The clips a model is calibrated on, and the ranges they give."""

    master: onnx.ModelProto
    """FP32; not to be changed."""
    clips: Sequence[npt.NDArray[np.float32]]
    method: MethodName = "minmax"

    @functools.cached_property
    def ranges(self) -> Ranges:
        """Those of `master`, of every layer that any target quantizes; observed on first use."""
        return observe(
            self.master, quantized_tensors(self.master, float_everywhere(self.master)), self.clips, self.method
        )

    def ranges_for(self, graph: onnx.ModelProto, skip: Collection[str]) -> Ranges:
        """The ranges `graph` needs, a graph made from `master` that computes the same function.

        A tensor of the master's name and shape has the master's range: opsets and exact rewrites change operators,
        and a rewrite that changes what a tensor holds gives it another name or shape. The others are observed.
        """
        own = view(graph)
        missing = {
            name: layer for name, layer in quantized_tensors(graph, skip).items() if not self._is_known(own, name)
        }
        if not missing:
            return self.ranges
        added = observe(graph, missing, self.clips, self.method)
        return self.ranges.model_copy(update={"tensors": {**self.ranges.tensors, **added.tensors}})

    @functools.cached_property
    def _view(self) -> GraphView:
        return view(self.master)

    def _is_known(self, graph: GraphView, name: str) -> bool:
        return name in self.ranges.tensors and graph.shapes.get(name) == self._view.shapes.get(name)
