"""The golden clip on a device: replay decoding, resizing and normalization, and compare each with the bundle's figures.

Every stage starts from what the bundle states of the stage before, as far as the bundle has it: a decoder that rounds
colors differently fails neither the preprocessing nor the network.
"""

from __future__ import annotations

import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeact.bundle import Bundle, Golden
from edgeact.clip import ClipSpec
from edgeact.errors import BundleSchemaError, VideoError
from edgeact.extras import is_installed
from edgeact.runtime.backends.base import Array
from edgeact.self_check_results import CheckStage, StageResult, UncheckedCause

__all__ = [
    "DECODE_LIMIT_LEVELS",
    "NORMALIZE_LIMIT",
    "RESIZE_LIMIT_LEVELS",
    "GoldenInput",
    "decode_pixels",
    "encode_pixels",
    "golden_input",
    "network_input",
]

Image = NDArray[np.uint8]

DECODE_LIMIT_LEVELS = 3.0
"""Of a frame's mean per channel. Conversions from YUV to RGB round a pixel differently by up to 2 levels; another color
matrix or range, another order of channels or of frames moves the mean further."""
RESIZE_LIMIT_LEVELS = 1.0
"""Of the mean difference of all pixels. Builds of OpenCV round an interpolated pixel differently by 1 level; if frames
are decoded differently, the limit of decoding is added."""
NORMALIZE_LIMIT = 1e-3
"""Of the network input's mean and standard deviation per channel, about 1. The table of values is exact in float32;
a wrong mean, standard deviation or channel order is off by far more, one level of 255 by 0.004 / std."""
_PREPROCESSING: tuple[CheckStage, ...] = ("decode", "resize", "normalize")


@dataclass(frozen=True, eq=False)
class GoldenInput:
    """The network's input of the golden clip, and the results of the stages before it."""

    stages: tuple[StageResult, ...]
    clip: Array | None
    """Float32 (1, 3, T, H, W), owned by the receiver; None if there is none to start from."""
    missing: UncheckedCause | None
    """Why `clip` is None."""


def encode_pixels(pixels: Image) -> bytes:
    """Return the member of resized, cropped RGB frames uint8 (T, H, W, 3); see rule 14 of docs/format.md."""
    differences = pixels.copy()
    differences[1:] -= pixels[:-1]
    return zlib.compress(differences.tobytes(), level=9)


def decode_pixels(data: bytes, clip: ClipSpec) -> Image:
    """Return the frames uint8 (T, H, W, 3) of `encode_pixels`; raises BundleSchemaError for any other stream."""
    shape = (clip.clip_frames, *clip.crop, 3)
    expected = int(np.prod(shape))
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, expected + 1)  # never more, whatever the stream claims to hold
    except zlib.error as error:
        raise BundleSchemaError(f"pixels of the golden clip: expected a zlib stream, got {error}") from error
    if len(content) != expected or not stream.eof or stream.unused_data:
        raise BundleSchemaError(
            f"pixels of the golden clip: expected {expected} bytes for frames of shape {shape}, got "
            f"{'more' if len(content) > expected else len(content)}; export the bundle again"
        )
    differences = np.frombuffer(content, np.uint8).reshape(shape)
    return np.add.accumulate(differences, axis=0, dtype=np.uint8)


def network_input(pixels: Image, clip: ClipSpec) -> Array:
    """Return resized, cropped RGB frames uint8 (T, H, W, 3) normalized, float32 (1, 3, T, H, W), without OpenCV."""
    levels = np.arange(256, dtype=np.float64) / 255.0
    planes = np.moveaxis(pixels if clip.channel_order == "rgb" else pixels[..., ::-1], -1, 0)
    result = np.empty(clip.input_shape, np.float32)
    for channel, plane in enumerate(planes):
        table = ((levels - clip.mean[channel]) / clip.std[channel]).astype(np.float32)
        result[0, channel] = table[plane]
    return result


def golden_input(bundle: Bundle) -> GoldenInput:
    """Replay the stages before the network; raises BundleError if the bundle's golden data is damaged."""
    golden, clip = bundle.manifest.golden, bundle.manifest.clip
    if golden is None:
        return _unchecked("no-golden-clip", None)
    stored = None if golden.pixels is None else decode_pixels(bundle.read(golden.pixels), clip)
    if not is_installed("cv2"):
        return _unchecked("no-opencv", None if stored is None else network_input(stored, clip))
    from edgeact.video import frames_digest

    frames = _decode(bundle, golden)
    if frames is None:
        return _unchecked("no-decoder", None if stored is None else network_input(stored, clip))
    is_exact = frames.shape == golden.frames_shape and frames_digest(frames) == golden.frames_sha256
    pixels = _resized(frames, clip)
    stages = (
        _decode_result(golden, frames, is_exact),
        _resize_result(stored, pixels, is_exact),
        _normalize_result(golden, clip, stored, pixels if is_exact else None),
    )
    start = pixels if stored is None and is_exact else stored
    if start is None:
        return GoldenInput(stages, None, "decoded-differently")
    return GoldenInput(stages, network_input(start, clip), None)


def _unchecked(cause: UncheckedCause, clip: Array | None) -> GoldenInput:
    stages = tuple(StageResult(stage=stage, unchecked=cause) for stage in _PREPROCESSING)
    return GoldenInput(stages, clip, cause if clip is None else None)


def _decode(bundle: Bundle, golden: Golden) -> Image | None:
    """Return the clip's frames, uint8 RGB (T, H, W, 3); None if this OpenCV cannot decode the video.

    That is not a failure: an app with other frames needs no decoder, and without one a video raises an error.
    """
    from edgeact.video import read_clips

    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / Path(golden.video).name
        video.write_bytes(bundle.read(golden.video))
        try:
            (frames,) = read_clips(video, bundle.manifest.clip, [0.0])
        except VideoError:
            return None
    return frames


def _resized(frames: Image, clip: ClipSpec) -> Image:
    from edgeact.video import center_crop, resize_frame

    return np.stack([center_crop(resize_frame(frame, clip), clip) for frame in frames])


def _decode_result(golden: Golden, frames: Image, is_exact: bool) -> StageResult:
    if is_exact:
        return StageResult(stage="decode", figure=0.0, limit=DECODE_LIMIT_LEVELS)
    if not golden.frames_mean:
        return StageResult(stage="decode", unchecked="no-figures")
    difference = np.abs(frames.mean(axis=(1, 2)) - np.array(golden.frames_mean)).max()
    return StageResult(stage="decode", figure=_rounded(difference), limit=DECODE_LIMIT_LEVELS)


def _resize_result(stored: Image | None, pixels: Image, is_exact: bool) -> StageResult:
    if stored is None:
        return StageResult(stage="resize", unchecked="no-figures")
    difference = np.abs(pixels.astype(np.int16) - stored).mean()
    limit = RESIZE_LIMIT_LEVELS if is_exact else RESIZE_LIMIT_LEVELS + DECODE_LIMIT_LEVELS
    return StageResult(stage="resize", figure=_rounded(difference), limit=limit)


def _normalize_result(golden: Golden, clip: ClipSpec, stored: Image | None, decoded: Image | None) -> StageResult:
    """Compare the normalization of the stored pixels, else of pixels that were decoded exactly."""
    from edgeact.video import preprocess

    pixels = decoded if stored is None else stored
    if pixels is None:
        return StageResult(stage="normalize", unchecked="decoded-differently")
    channels = preprocess(pixels, clip.model_copy(update={"resize": clip.crop}))[0].reshape(3, -1).astype(np.float64)
    expected = np.array([golden.input_mean, golden.input_std])
    difference = np.abs(np.stack([channels.mean(axis=1), channels.std(axis=1)]) - expected).max()
    return StageResult(stage="normalize", figure=_rounded(difference), limit=NORMALIZE_LIMIT)


def _rounded(value: float) -> float:
    return round(float(value), 6)
