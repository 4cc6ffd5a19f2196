"""What a model is to the exporter: a name, a builder, the paper's clip contract and figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError
from torch import nn

from edgeact.clip import ClipSpec
from edgeact.errors import UsageError

__all__ = ["KINETICS_MEAN", "KINETICS_STD", "ModelOptions", "ModelSpec", "resized_clip"]

# The per-channel statistics torchvision's video models are trained with; none of the papers states its own.
KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
KINETICS_STD = (0.22803, 0.22145, 0.216989)


@dataclass(frozen=True)
class ModelOptions:
    """What can be chosen of a registry model."""

    class_count: int
    width: int
    """Channels of the first stage; the papers' size is 64."""
    clip_frames: int
    size: tuple[int, int]
    """(height, width) of the network's input, pixels."""

    def __post_init__(self) -> None:
        if self.class_count < 1 or self.clip_frames < 1 or min(self.size) < 16:
            raise UsageError(
                "expected at least 1 class, 1 frame and 16x16 pixels, got "
                f"{self.class_count} classes, {self.clip_frames} frames, {self.size[0]}x{self.size[1]} pixels"
            )
        if self.width < 4 or self.width % 4:
            raise UsageError(f"expected a width that is a positive multiple of 4, got {self.width}")

    @property
    def input_shape(self) -> tuple[int, int, int, int, int]:
        """Shape `(1, 3, T, H, W)` of one clip."""
        return (1, 3, self.clip_frames, *self.size)


@dataclass(frozen=True)
class ModelSpec:
    """One row of the registry."""

    name: str
    build: Callable[[ModelOptions], nn.Module]
    """Returns the untrained module: float32 `(N, 3, T, H, W)` -> logits `(N, class_count)`."""
    clip: ClipSpec
    """The paper's clip contract."""
    paper: str
    published_parameters: int | None = None
    """At `published_classes` classes; None where the paper prints none."""
    published_classes: int = 101
    width: int = 64
    classifier: str = "classifier"
    """Name of the last linear layer in the module."""

    def options(self, class_count: int, *, width: int | None = None, clip: ClipSpec | None = None) -> ModelOptions:
        """The options for `class_count` classes, everything else as the paper has it unless given."""
        contract = clip or self.clip
        return ModelOptions(class_count, width or self.width, contract.clip_frames, contract.crop)


def resized_clip(
    clip: ClipSpec,
    *,
    clip_frames: int | None = None,
    size: int | None = None,
    resize: tuple[int, int] | None = None,
    fps: float | None = None,
) -> ClipSpec:
    """`clip` with another length, crop size (square), resize (height, width) or rate.

    Unless given, the resize keeps its ratio to the crop. Raises UsageError where the outcome is no possible clip.
    """
    changes: dict[str, object] = {}
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
