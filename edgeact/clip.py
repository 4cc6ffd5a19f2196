"""The clip contract: how a model's input is sampled from a video and preprocessed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgeact.schema import StrictModel

__all__ = ["ClipSpec"]

Triple = tuple[float, float, float]
Size = tuple[int, int]


class ClipSpec(StrictModel):
    """The path of one clip from decoded frames to the network's input.

    Training, calibration, evaluation and the device all follow it through `edgeact.video`: the frames nearest to the
    time stamps `t0 + i / fps`, resize, center crop, `(pixel / 255 - mean) / std`, float32 `(N, C, T, H, W)`.
    """

    clip_frames: int = Field(gt=0, le=1024, description="T, frames of a clip")
    fps: float = Field(gt=0, le=1000, description="rate at which the frames of a clip are sampled, frames per second")
    resize: Size = Field(
        description="(height, width) to which frames are resized before the crop, pixels; the aspect ratio may change"
    )
    crop: Size = Field(description="(height, width) of the center crop, pixels; H and W of the network input")
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
            raise ValueError(f"crop must fit into resize {self.resize}, got {self.crop}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")
        return self

    @property
    def input_shape(self) -> tuple[int, int, int, int, int]:
        """Shape `(1, 3, T, H, W)` of the network input."""
        return (1, 3, self.clip_frames, *self.crop)

    @property
    def duration_s(self) -> float:
        """Seconds of video that one clip covers, including the duration of the last frame."""
        return self.clip_frames / self.fps
