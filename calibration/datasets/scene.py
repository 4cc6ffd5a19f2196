"""Render the surroundings of the figure: background, camera, light and sensor noise, all independent of the class."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edgeact.calibration.datasets.figure import Color, Floats, Image

__all__ = ["Camera", "Scene", "random_camera", "random_scene"]

_MARGIN = 24  # pixels of canvas around the picture, for camera motion
_NOISE_SLACK = 32


@dataclass(frozen=True)
class Scene:
    """The place of a clip; `canvas` is the background with a margin on all sides, owned by the scene."""

    canvas: Image
    ground_y: float
    noise: np.ndarray[tuple[int, ...], np.dtype[np.int16]]
    lights: Image
    drifter: Drifter | None

    def background(self, offset: Floats, time_s: float) -> Image:
        """Return a new picture without the figure, the camera shifted by `offset` (2,) pixels."""
        height, width = self.canvas.shape[0] - 2 * _MARGIN, self.canvas.shape[1] - 2 * _MARGIN
        center = (_MARGIN + width / 2 - 0.5 + offset[0], _MARGIN + height / 2 - 0.5 + offset[1])
        frame = cv2.getRectSubPix(self.canvas, (width, height), center).astype(np.uint8, copy=False)
        if self.drifter is not None:
            self.drifter.draw(frame, offset, time_s)
        return frame

    def expose(self, frame: Image, rng: np.random.Generator) -> Image:
        """Return a new picture with gamma, contrast and brightness applied, then sensor noise."""
        top, left = rng.integers(0, _NOISE_SLACK, size=2)
        grain = self.noise[top : top + frame.shape[0], left : left + frame.shape[1]]
        return cv2.add(cv2.LUT(frame, self.lights), grain, dtype=cv2.CV_8U).astype(np.uint8, copy=False)


@dataclass(frozen=True)
class Drifter:
    """A ball that rolls through the background, a distractor."""

    start: Floats
    velocity: Floats
    radius: float
    color: Color

    def draw(self, frame: Image, offset: Floats, time_s: float) -> None:
        """Draw the ball at its position after `time_s` seconds."""
        x, y = np.rint((self.start + self.velocity * time_s - offset) * 16).astype(int)
        cv2.circle(frame, (int(x), int(y)), int(self.radius * 16), self.color, -1, cv2.LINE_AA, 4)


@dataclass(frozen=True)
class Camera:
    """The view of the figure: its height and position in pixels, and the path (T, 2) of the camera in pixels."""

    scale_px: float
    center_x: float
    path: Floats
    mirror: bool


def random_scene(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Draw a random scene for pictures of this size."""
    ground_y = height * rng.uniform(0.84, 0.95)
    sigma = rng.uniform(1.0, 9.0)
    shape = (height + _NOISE_SLACK, width + _NOISE_SLACK, 3)
    noise = (sigma * rng.standard_normal(shape, dtype=np.float32)).astype(np.int16)
    return Scene(
        _canvas(rng, width, height, ground_y), ground_y, noise, _light_table(rng), _drifter(rng, width, height)
    )


def random_camera(rng: np.random.Generator, width: int, ground_y: float, times_s: Floats, reach: float) -> Camera:
    """Draw a random camera that keeps a figure of `reach` body heights in width inside the picture."""
    scale_px = ground_y * rng.uniform(0.58, 0.82)
    slack = max(0.0, (width - reach * scale_px) / 2)
    shaking = np.cumsum(rng.normal(size=(len(times_s), 2)), axis=0)
    shaking -= np.linspace(0.0, 1.0, len(times_s))[:, None] * shaking[-1]
    shake = rng.uniform(0.0, 0.7) * shaking
    pan = np.array([rng.uniform(-7.0, 7.0), rng.uniform(-2.0, 2.0)]) * (times_s - times_s.mean())[:, None]
    path = np.clip(shake + pan, -_MARGIN / 2, _MARGIN / 2)
    return Camera(scale_px, width / 2 + slack * rng.uniform(-0.9, 0.9), path, mirror=bool(rng.random() < 0.5))


def _light_table(rng: np.random.Generator) -> Image:
    """Return a random look-up table (256,) of gamma, contrast and brightness."""
    level = np.linspace(0.0, 1.0, 256) ** rng.uniform(0.7, 1.45)
    lit = (level - 0.5) * rng.uniform(0.75, 1.1) + 0.5 + rng.uniform(-0.08, 0.08)
    return np.clip(np.rint(255.0 * lit), 0, 255).astype(np.uint8)


def _canvas(rng: np.random.Generator, width: int, height: int, ground_y: float) -> Image:
    full_w, full_h = width + 2 * _MARGIN, height + 2 * _MARGIN
    horizon = int(_MARGIN + ground_y - height * rng.uniform(0.03, 0.25))
    wall = _gradient(rng, full_w, full_h)
    wall[horizon:] = _gradient(rng, full_w, full_h)[horizon:]
    coarse = rng.normal(0.0, rng.uniform(2.0, 14.0), size=(rng.integers(4, 24), rng.integers(4, 32))).astype(np.float32)
    wall += cv2.resize(coarse, (full_w, full_h), interpolation=cv2.INTER_LINEAR)[..., None]
    canvas: Image = np.clip(wall, 0, 255).astype(np.uint8)
    for _ in range(rng.integers(2, 9)):
        _clutter(rng, canvas, horizon)
    return canvas


def _gradient(rng: np.random.Generator, width: int, height: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    base = rng.uniform(55.0, 205.0)
    ends = base + rng.normal(0.0, 16.0, size=(2, 3)) + rng.normal(0.0, 22.0, size=(2, 1))
    ramp = np.linspace(0.0, 1.0, height)[:, None]
    column = ((1.0 - ramp) * ends[0] + ramp * ends[1]).astype(np.float32)
    return np.repeat(column[:, None, :], width, axis=1)


def _clutter(rng: np.random.Generator, canvas: Image, horizon: int) -> None:
    """Draw a block, disc or pole on or above the horizon, in a color close to that of the wall."""
    x, w, h = int(rng.integers(canvas.shape[1])), int(rng.integers(5, 42)), int(rng.integers(6, 60))
    bottom = int(horizon - rng.integers(0, 60) * (rng.random() < 0.5))
    near = canvas[min(max(bottom, 0), canvas.shape[0] - 1), min(x, canvas.shape[1] - 1)]
    color = tuple(int(channel) for channel in np.clip(near + rng.normal(0.0, 34.0, size=3), 0, 255))
    kind = rng.integers(3)
    if kind == 0:
        cv2.rectangle(canvas, (x, bottom - h), (x + w, bottom), color, -1)
    elif kind == 1:
        cv2.ellipse(canvas, (x, bottom - h // 2), (w // 2, h // 2), 0.0, 0.0, 360.0, color, -1, cv2.LINE_AA)
    else:
        cv2.line(canvas, (x, bottom), (x + w // 3, bottom - 2 * h), color, int(rng.integers(1, 5)), cv2.LINE_AA)


def _drifter(rng: np.random.Generator, width: int, height: int) -> Drifter | None:
    start = rng.uniform([0.0, 0.3 * height], [width, height])
    velocity = rng.uniform([-45.0, -6.0], [45.0, 6.0])
    red, green, blue = (int(channel) for channel in rng.integers(30, 226, size=3))
    radius = rng.uniform(2.0, 7.0)
    return Drifter(start, velocity, radius, (red, green, blue)) if rng.random() < 0.35 else None
