"""The numbers behind a picture; `dataclasses.asdict` of them is JSON-ready."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeact.export.explain.attention_weights import FloatArray, ModuleWeights
from edgeact.export.models.attention.base import Frequency

__all__ = ["ClipDocument", "GradCamDocument", "LabelScore", "ModuleDocument", "to_numbers", "to_volume"]

_DECIMALS = 6

Volume = tuple[tuple[tuple[float, ...], ...], ...]
"""`(T', H', W')`."""


@dataclass(frozen=True)
class LabelScore:
    """A label and its softmax score."""

    label: str
    score: float


@dataclass(frozen=True)
class ModuleDocument:
    """The weights of one attention module; None for an axis along which all are equal."""

    path: str
    stage: int
    kind: str
    channels: tuple[float, ...] | None
    frames: tuple[float, ...] | None
    maps: Volume | None
    frequencies: tuple[Frequency, ...]

    @classmethod
    def of(cls, weights: ModuleWeights) -> ModuleDocument:
        """Round the weights of a module."""
        return cls(
            path=weights.path,
            stage=weights.stage,
            kind=weights.kind,
            channels=None if weights.channels is None else to_numbers(weights.channels),
            frames=None if weights.frames is None else to_numbers(weights.frames),
            maps=None if weights.maps is None else to_volume(weights.maps),
            frequencies=tuple(
                Frequency(each.row, each.column, each.channels, round(each.weight, _DECIMALS))
                for each in weights.frequencies
            ),
        )


@dataclass(frozen=True)
class GradCamDocument:
    """Grad-CAM of a label."""

    layer: str
    label: str
    score: float
    map: Volume


@dataclass(frozen=True)
class ClipDocument:
    """One clip: the best labels, the weights of all attention modules in order of use, and Grad-CAM."""

    start_s: float
    top: tuple[LabelScore, ...]
    modules: tuple[ModuleDocument, ...]
    grad_cam: GradCamDocument


def to_numbers(values: FloatArray) -> tuple[float, ...]:
    """Round `(N,)` to 6 decimals."""
    return tuple(np.round(values.astype(np.float64), _DECIMALS).tolist())


def to_volume(values: FloatArray) -> Volume:
    """Round `(T', H', W')` to 6 decimals."""
    return tuple(tuple(map(to_numbers, plane)) for plane in values)
