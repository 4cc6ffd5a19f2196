"""Ranges for all graphs of one model: the master graph is calibrated once; tensors that rewrites add are observed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

import edgeact
from edgeact.calibration.range_cache import RangeCache, RangeKey, digest_clips, digest_names
from edgeact.calibration.range_methods import MethodName
from edgeact.calibration.ranges import Ranges
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.values import dims_of
from edgeact.export.quantize.activation_ranges import RANGES_VERSION, observe, quantized_tensors
from edgeact.export.quantize.exclusions import float_everywhere
from edgeact.progress import OnProgress

__all__ = ["Calibrator"]

_VERSIONS = {
    "edgeact": edgeact.__version__,
    "ranges": str(RANGES_VERSION),
    "numpy": np.__version__,
    "onnxruntime": onnxruntime.__version__,
}


@dataclass(frozen=True)
class Calibrator:
    """The calibration clips of a model, and the ranges observed on them."""

    master: ir.Model
    """The FP32 graph; must not be changed."""
    clips: Sequence[npt.NDArray[np.float32]]
    """Float32 clips of the graph's input shape; must not be changed."""
    method: MethodName = "minmax"
    cache: RangeCache | None = None
    """Cache of observed ranges; None: always observe."""
    on_progress: OnProgress | None = None
    """Called with the number of observed clips and their total."""

    @functools.cached_property
    def ranges(self) -> Ranges:
        """Ranges of `master`, of every layer that any target quantizes; observed on first use."""
        return self.observed(self.master, quantized_tensors(self.master, float_everywhere(self.master)))

    def ranges_for(self, graph: ir.Model, excluded: Collection[str]) -> Ranges:
        """Return the ranges that `graph` needs, a rewritten `master` that computes the same function.

        A tensor of the same name and shape in `master` has the same range: opsets and exact rewrites change
        operators, and a rewrite that changes the values of a tensor gives it another name or shape. All other tensors
        are observed.
        """
        values = ir.convenience.create_value_mapping(graph.graph)
        needed = quantized_tensors(graph, excluded).items()
        missing = {name: layer for name, layer in needed if not self._is_known(values[name])}
        if not missing:
            return self.ranges
        added = self.observed(graph, missing)
        return self.ranges.model_copy(update={"tensors": {**self.ranges.tensors, **added.tensors}})

    def observed(self, graph: ir.Model, layers: Mapping[str, str]) -> Ranges:
        """Return the ranges of the tensors named in `layers` (tensor -> layer), from the cache if possible."""
        if self.cache is None:
            return observe(graph, layers, self.clips, self.method, self.on_progress)
        key = self._key(graph, layers)
        ranges = self.cache.get(key)
        if ranges is None:
            ranges = observe(graph, layers, self.clips, self.method, self.on_progress)
            self.cache.put(key, ranges)
        return ranges

    def _key(self, graph: ir.Model, layers: Mapping[str, str]) -> RangeKey:
        return RangeKey(
            graph_sha256=hashlib.sha256(to_bytes(graph)).hexdigest(),
            tensors_sha256=digest_names(f"{name} {layer}" for name, layer in layers.items()),
            clips_sha256=self._clips_sha256,
            clips=len(self.clips),
            method=self.method,
            versions=_VERSIONS,
        )

    @functools.cached_property
    def _clips_sha256(self) -> str:
        return digest_clips(self.clips)

    @functools.cached_property
    def _values(self) -> Mapping[str, ir.Value]:
        return ir.convenience.create_value_mapping(self.master.graph)

    def _is_known(self, value: ir.Value) -> bool:
        original = self._values.get(value.name or "")
        return original is not None and value.name in self.ranges.tensors and dims_of(value) == dims_of(original)
