"""The clip contract: how a model wants its input cut out of a video."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["ClipSpec"]

Triple = tuple[float, float, float]
Size = tuple[int, int]


class ClipSpec(BaseModel):
    """What one clip is, from decoded frames to the network's input.

    Training, calibration, evaluation and the device all preprocess by it through `edgeact.video`:
    frames nearest to the time stamps `t0 + i / fps`, resize, centre crop, `(pixel / 255 - mean) / std`,
    float32 `(N, C, T, H, W)`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    clip_frames: int = Field(gt=0, le=1024, description="T, frames in a clip")
    fps: float = Field(gt=0, le=1000, description="frames per second at which the clip's frames are chosen")
    resize: Size = Field(description="(height, width) every frame is stretched to before the crop, pixels")
    crop: Size = Field(description="(height, width) of the centre crop, pixels; the network's H and W")
    mean: Triple = Field(description="per channel, of pixels scaled to [0, 1], in `channel_order`")
    std: Triple = Field(description="per channel, of pixels scaled to [0, 1], in `channel_order`")
    channel_order: Literal["rgb", "bgr"] = "rgb"
    interpolation: Literal["linear", "area"] = "linear"
    layout: Literal["NCTHW"] = "NCTHW"

    @model_validator(mode="after")
    def _check(self) -> ClipSpec:
        for name, size in (("resize", self.resize), ("crop", self.crop)):
            if min(size) < 1 or max(size) > 8192:
                raise ValueError(f"{name} must be (height, width) within 1..8192 pixels, got {size}")
        if self.crop[0] > self.resize[0] or self.crop[1] > self.resize[1]:
            raise ValueError(f"crop {self.crop} must fit into resize {self.resize}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")
        return self

    @property
    def input_shape(self) -> tuple[int, int, int, int, int]:
        """Shape `(1, 3, T, H, W)` of one clip as the network takes it."""
        return (1, 3, self.clip_frames, *self.crop)

    @property
    def duration_s(self) -> float:
        """Seconds of video that one clip covers, the last frame's own time included."""
        return self.clip_frames / self.fps
