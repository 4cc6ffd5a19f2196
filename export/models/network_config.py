"""Configuration of a registry model: classes, width and input size."""

from __future__ import annotations

from dataclasses import dataclass

from edgeact.errors import UsageError

__all__ = ["NetworkConfig"]


@dataclass(frozen=True)
class NetworkConfig:
    """Number of classes, width and input size of a registry model."""

    class_count: int
    width: int
    """Channels of the first stage, a multiple of 4; 64 in the papers."""
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
        """Shape of one clip, `(1, 3, T, H, W)`."""
        return (1, 3, self.clip_frames, *self.size)
