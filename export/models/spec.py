"""Specification of a model: name, formula and the paper's clip contract."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError
from torch import nn

from edgeact.clip import ClipSpec
from edgeact.errors import UsageError
from edgeact.export.models.formula import Formula
from edgeact.export.models.network_config import NetworkConfig

__all__ = ["ModelSpec", "Pixels", "resized_clip"]


@dataclass(frozen=True)
class ModelSpec:
    """A row of the registry, or a combination without a row."""

    name: str
    formula: Formula
    clip: ClipSpec
    """The paper's clip contract."""
    paper: str
    width: int = 64

    def build(self, options: NetworkConfig) -> nn.Module:
        """Build the untrained module: float32 `(N, 3, T, H, W)` -> logits `(N, class_count)`."""
        return self.formula.build(options)

    @property
    def classifier(self) -> str:
        """Path of the last linear layer in the module."""
        return self.formula.backbone.classifier

    def config(self, class_count: int, *, width: int | None = None, clip: ClipSpec | None = None) -> NetworkConfig:
        """Return the configuration for `class_count` classes; the rest as in the paper if not given."""
        contract = clip or self.clip
        return NetworkConfig(class_count, width or self.width, contract.clip_frames, contract.crop)


@dataclass(frozen=True)
class Pixels:
    """Normalization of pixels, in the network's channel order; None: that of the clip contract."""

    mean: tuple[float, ...] | None = None
    """Per channel, of pixels within [0, 1]."""
    std: tuple[float, ...] | None = None
    """Per channel, of pixels within [0, 1]."""
    channel_order: str | None = None
    """'rgb' or 'bgr'."""


def resized_clip(
    clip: ClipSpec,
    *,
    clip_frames: int | None = None,
    size: int | None = None,
    resize: tuple[int, int] | None = None,
    fps: float | None = None,
    pixels: Pixels | None = None,
) -> ClipSpec:
    """Return `clip` with another length, crop size (square), resize (height, width), rate or pixel normalization.

    If not given, the resize keeps its ratio to the crop. Raises UsageError if the result is not a valid clip contract.
    """
    changes: dict[str, object] = {name: value for name, value in vars(pixels or Pixels()).items() if value is not None}
    if clip_frames is not None:
        changes["clip_frames"] = clip_frames
    if fps is not None:
        changes["fps"] = fps
    if size is not None:
        changes["crop"] = (size, size)
        changes["resize"] = tuple(round(old * size / base) for old, base in zip(clip.resize, clip.crop, strict=True))
    if resize is not None:
        changes["resize"] = resize
    try:
        return ClipSpec.model_validate({**clip.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{first['loc'][0]}: " if first["loc"] else ""
        raise UsageError(f"the clip asked for is not possible: {where}{first['msg']}") from error
