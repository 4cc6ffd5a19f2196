from __future__ import annotations

from collections import deque
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeact.clip import ClipSpec
from edgeact.errors import InputError
from edgeact.video import Image, Preprocessor, preprocess
from tests.messages import names
from tests.video.clips import make_clip

FLAGS = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}


def random_frames(clip_frames: int, height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (clip_frames, height, width, 3), dtype=np.uint8)


def naive(frames: Image, clip: ClipSpec) -> NDArray[np.float64]:
    """The law written out pixel by pixel in float64, without a table."""
    height, width = clip.resize
    top, left = (height - clip.crop[0]) // 2, (width - clip.crop[1]) // 2
    resized = [cv2.resize(frame, (width, height), interpolation=FLAGS[clip.interpolation]) for frame in frames]
    pixels = np.stack(resized).astype(np.float64)[:, top : top + clip.crop[0], left : left + clip.crop[1]]
    pixels = pixels if clip.channel_order == "rgb" else pixels[..., ::-1]
    normalized: NDArray[np.float64] = (pixels / 255 - np.array(clip.mean)) / np.array(clip.std)
    return normalized.transpose(3, 0, 1, 2)[None]


sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))


@settings(max_examples=80)
@given(
    source=sizes,
    resize=sizes,
    shrink=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    channel_order=st.sampled_from(["rgb", "bgr"]),
    interpolation=st.sampled_from(["linear", "area"]),
    seed=st.integers(0, 99),
)
def test_preprocessing_is_the_float64_formula(
    source: tuple[int, int],
    resize: tuple[int, int],
    shrink: tuple[int, int],
    channel_order: str,
    interpolation: str,
    seed: int,
) -> None:
    crop = max(1, resize[0] - shrink[0]), max(1, resize[1] - shrink[1])
    clip = make_clip(3, resize=resize, crop=crop, channel_order=channel_order, interpolation=interpolation)
    frames = random_frames(3, *source, seed=seed)
    result = preprocess(frames, clip)
    assert result.dtype == np.float32
    assert result.shape == clip.input_shape
    np.testing.assert_allclose(result, naive(frames, clip), rtol=1e-6, atol=1e-6)


def bilinear(image: Image, height: int, width: int) -> NDArray[np.float64]:
    """Half-pixel-center bilinear interpolation in float64, borders repeated."""

    def weights(source: int, target: int) -> NDArray[np.float64]:
        matrix = np.zeros((target, source))
        for row in range(target):
            at = min(max((row + 0.5) * source / target - 0.5, 0.0), source - 1.0)
            low = int(at)
            matrix[row, low] += 1 - (at - low)
            matrix[row, min(low + 1, source - 1)] += at - low
        return matrix

    pixels = image.astype(np.float64)
    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    resized: NDArray[np.float64] = np.einsum("ys,swc,xw->yxc", rows, pixels, columns)
    return resized


@pytest.mark.parametrize("size", [(41, 57), (16, 16), (64, 80), (33, 200)])
def test_linear_resize_is_half_pixel_bilinear_within_a_level(size: tuple[int, int]) -> None:
    clip = make_clip(1, resize=(32, 40), crop=(32, 40), mean=(0, 0, 0), std=(1, 1, 1))
    frames = random_frames(1, *size)
    levels = preprocess(frames, clip)[0, :, 0].transpose(1, 2, 0) * 255
    assert np.abs(levels - bilinear(frames[0], 32, 40)).max() <= 1.0


def test_area_resize_is_the_block_mean_within_a_level() -> None:
    clip = make_clip(1, resize=(20, 30), crop=(20, 30), mean=(0, 0, 0), std=(1, 1, 1), interpolation="area")
    frames = random_frames(1, 60, 120)
    levels = preprocess(frames, clip)[0, :, 0].transpose(1, 2, 0) * 255
    assert np.abs(levels - frames[0].reshape(20, 3, 30, 4, 3).mean(axis=(1, 3))).max() <= 1.0


@pytest.mark.parametrize("channel_order", ["rgb", "bgr"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_order_of_channels_is_the_callers(channel_order: str, order: Literal["rgb", "bgr"]) -> None:
    clip = make_clip(channel_order=channel_order)
    rgb = random_frames(8, 30, 50)
    given_frames = rgb if order == "rgb" else rgb[..., ::-1]
    np.testing.assert_array_equal(preprocess(given_frames, clip, order=order), preprocess(rgb, clip))


def test_out_is_filled_and_returned() -> None:
    clip = make_clip()
    out = np.full(clip.input_shape, np.nan, np.float32)
    frames = random_frames(8, 40, 60)
    assert preprocess(frames, clip, out) is out
    np.testing.assert_array_equal(out, preprocess(frames, clip))


def test_a_sequence_may_hold_frames_of_several_sizes() -> None:
    clip = make_clip(2)
    small, large = random_frames(1, 20, 20)[0], random_frames(1, 90, 70)[0]
    result = preprocess([small, large], clip)
    np.testing.assert_array_equal(result[:, :, 1], preprocess([large, large], clip)[:, :, 0])


@settings(max_examples=40)
@given(
    st.integers(1, 9),
    st.sampled_from([(36, 44), (32, 40), (20, 30)]),
    st.sampled_from(["rgb", "bgr"]),
    st.booleans(),
)
def test_two_threads_and_kept_memory_change_nothing(
    count: int, size: tuple[int, int], order: Literal["rgb", "bgr"], is_buffer: bool
) -> None:
    clip = make_clip(count)
    reused = Preprocessor(clip, threads=2)
    for seed in range(2):
        frames = random_frames(count, *size, seed)
        given_frames = deque(frames) if is_buffer else frames  # a deque has no slices
        result = reused(given_frames, order=order)
        assert result is reused.out
        np.testing.assert_array_equal(result, preprocess(frames, clip, order=order))
    reused.close()


def test_a_preprocessor_works_after_a_wrong_frame() -> None:
    clip, frames = make_clip(), random_frames(8, 36, 40)
    reused = Preprocessor(clip, threads=2)
    with pytest.raises(InputError, check=names("frame 7")):
        reused([*frames[:7], np.zeros((9, 9), np.uint8)])
    np.testing.assert_array_equal(reused(frames), preprocess(frames, clip))
    reused.close()


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (np.zeros((7, 9, 9, 3), np.uint8), ("expected 8 frames", "got 7")),
        (np.zeros((0, 9, 9, 3), np.uint8), ("expected 8 frames", "got 0")),
        (np.zeros((8, 9, 9, 3), np.float32), ("frame 0: expected uint8", "got float32")),
        (np.zeros((8, 9, 9), np.uint8), ("got uint8 of shape (9, 9)",)),
        (np.zeros((8, 9, 9, 4), np.uint8), ("got uint8 of shape (9, 9, 4)",)),
        (np.zeros((8, 0, 9, 3), np.uint8), ("got uint8 of shape (0, 9, 3)",)),
        ([None] * 8, ("frame 0:", "got NoneType")),
    ],
)
def test_frames_of_another_kind(frames: Any, expected: tuple[str, ...]) -> None:
    with pytest.raises(InputError, check=names(*expected)):
        preprocess(frames, make_clip())


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        (np.empty((1, 3, 8, 32, 31), np.float32), ("(1, 3, 8, 32, 32), got float32 of shape (1, 3, 8, 32, 31)",)),
        (np.empty((1, 3, 8, 32, 32), np.float64), ("got float64",)),
        (np.empty((1, 3, 8, 32, 64), np.float32)[..., ::2], ("contiguous",)),
        (np.broadcast_to(np.float32(0), (1, 3, 8, 32, 32)), ("contiguous",)),
    ],
)
def test_out_of_another_kind(out: Any, expected: tuple[str, ...]) -> None:
    with pytest.raises(InputError, check=names(*expected)):
        preprocess(np.zeros((8, 9, 9, 3), np.uint8), make_clip(), out)
