"""Errors of the native compiler; the reason is typed, its English is in `edgeact.phrases`."""

from __future__ import annotations

from typing import NamedTuple

from edgeact.errors import ConversionError
from edgeact.native_requirements import NativeRequirement, UnsupportedLayer
from edgeact.phrases import phrase

__all__ = ["Layer", "NotLoweredError", "UnmetRequirement"]


class Layer(NamedTuple):
    """An ONNX node as messages name it."""

    name: str
    operator: str


class UnmetRequirement(Exception):
    """A requirement that a layer does not meet; without `layer` it is the layer that is being lowered."""

    def __init__(self, requirement: NativeRequirement, got: str, layer: Layer | None = None) -> None:
        super().__init__(requirement, got, layer)
        self.requirement: NativeRequirement = requirement
        self.got = got
        self.layer = layer


class NotLoweredError(ConversionError):
    """A graph with a layer that the native engine cannot run; `reason` says which layer and why."""

    def __init__(self, layer: Layer, requirement: NativeRequirement, got: str) -> None:
        self.reason = UnsupportedLayer(layer=layer.name, operator=layer.operator, requirement=requirement, got=got)
        super().__init__(phrase(self.reason))
