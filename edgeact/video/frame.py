"""One decoded frame, its conversion to RGB, and the digest of a stack of frames."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeact.errors import InputError, VideoError

__all__ = ["Frame", "Image", "bgr_to_rgb", "frames_digest"]

Image = NDArray[np.uint8]

_CONVERSIONS = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: `image` RGB uint8 (H, W, 3), owned by the receiver; `time_s` seconds since the first frame."""

    image: Image
    time_s: float


def bgr_to_rgb(image: NDArray[np.generic]) -> Image:
    """Convert a frame of OpenCV, uint8 gray (H, W), (H, W, 1), BGR or BGRA, to a new RGB uint8 (H, W, 3).

    Raises VideoError for any other shape or dtype.
    """
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in _CONVERSIONS or image.size == 0:
        raise VideoError(
            f"expected uint8 frames of 1, 3 or 4 channels, got {image.dtype} of shape {image.shape}; "
            "set the camera or pipeline to 8-bit BGR"
        )
    return np.asarray(cv2.cvtColor(np.asarray(image, dtype=np.uint8), _CONVERSIONS[channels]), dtype=np.uint8)


def frames_digest(frames: Image) -> str:
    """Return the SHA-256 (hex) of shape and bytes of a uint8 array, independent of its memory layout.

    Raises InputError for another dtype.
    """
    if frames.dtype != np.uint8:
        raise InputError(f"expected frames uint8, got {frames.dtype}")
    digest = hashlib.sha256(repr(tuple(int(size) for size in frames.shape)).encode())
    digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()
