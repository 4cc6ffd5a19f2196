"""The stages before the network: what the golden clip says of decoding, resizing and normalization on this machine."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeact.bundle import Bundle
from edgeact.clip import ClipSpec
from edgeact.errors import BundleSchemaError
from edgeact.runtime import load
from edgeact.runtime.golden import (
    DECODE_LIMIT_LEVELS,
    RESIZE_LIMIT_LEVELS,
    decode_pixels,
    encode_pixels,
    golden_input,
    network_input,
)
from edgeact.self_check_results import CheckStage, StageResult
from edgeact.video import preprocess
from tests.bench.bundles import make_checked_bundle, make_golden_bundle
from tests.messages import names
from tests.runtime.making import CLIP, make_bundle

SHAPE = (CLIP.clip_frames, *CLIP.crop, 3)


def _stages(bundle: Bundle) -> dict[CheckStage, StageResult]:
    return {result.stage: result for result in golden_input(bundle).stages}


@given(arrays(np.uint8, SHAPE, elements=st.integers(0, 255)))
def test_pixels_survive_their_encoding(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_pixels(encode_pixels(pixels), CLIP), pixels)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no stream",
        zlib.compress(bytes(10)),
        zlib.compress(bytes(int(np.prod(SHAPE)) + 1)),
        zlib.compress(bytes(1 << 24)),
        zlib.compress(bytes(int(np.prod(SHAPE)))) + b"more",
        zlib.compress(bytes(int(np.prod(SHAPE))))[:-1],
    ],
)
def test_any_other_stream_is_refused(data: bytes) -> None:
    with pytest.raises(BundleSchemaError, check=names("pixels of the golden clip")):
        decode_pixels(data, CLIP)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_network_input_is_what_the_preprocessing_computes(order: str) -> None:
    clip = ClipSpec.model_validate({**CLIP.model_dump(), "channel_order": order, "mean": (0.4, 0.5, 0.6)})
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    expected = preprocess(pixels, clip.model_copy(update={"resize": clip.crop}))
    np.testing.assert_array_equal(network_input(pixels, clip), expected)


def test_every_stage_passes_where_the_bundle_was_written(tmp_path: Path) -> None:
    replayed = golden_input(make_checked_bundle(tmp_path / "b.edgeact"))
    assert [(result.stage, result.verdict, result.figure) for result in replayed.stages] == [
        ("decode", "passed", 0.0),
        ("resize", "passed", 0.0),
        ("normalize", "passed", 0.0),
    ]
    assert replayed.clip is not None
    assert replayed.clip.shape == CLIP.input_shape


def test_a_decoder_that_rounds_differently_passes_and_the_network_starts_from_the_pixels(tmp_path: Path) -> None:
    exact = make_checked_bundle(tmp_path / "a.edgeact")
    assert exact.manifest.golden is not None
    mean = tuple(tuple(value + 1.5 for value in frame) for frame in exact.manifest.golden.frames_mean)
    other = make_checked_bundle(tmp_path / "b.edgeact", frames_sha256="0" * 64, frames_mean=mean)
    stages = _stages(other)
    assert stages["decode"].figure == pytest.approx(1.5)
    assert [result.verdict for result in stages.values()] == ["passed"] * 3
    assert stages["resize"].limit == RESIZE_LIMIT_LEVELS + DECODE_LIMIT_LEVELS
    np.testing.assert_array_equal(golden_input(other).clip, golden_input(exact).clip)


def test_a_decoder_that_delivers_other_frames_fails(tmp_path: Path) -> None:
    red = ((255.0, 0.0, 0.0),) * CLIP.clip_frames
    result = _stages(make_checked_bundle(tmp_path / "b.edgeact", frames_sha256="0" * 64, frames_mean=red))["decode"]
    assert result.verdict == "failed"
    assert (result.figure or 0) > 200


def test_normalization_by_other_figures_fails(tmp_path: Path) -> None:
    stages = _stages(make_checked_bundle(tmp_path / "b.edgeact", input_std=(0.1, 0.1, 0.1)))
    assert {stage: result.verdict for stage, result in stages.items()} == {
        "decode": "passed",
        "resize": "passed",
        "normalize": "failed",
    }


def test_a_bundle_without_the_figures_is_checked_as_far_as_it_goes(tmp_path: Path) -> None:
    replayed = golden_input(make_golden_bundle(tmp_path / "b.edgeact"))
    assert [(result.stage, result.verdict, result.unchecked) for result in replayed.stages] == [
        ("decode", "passed", None),
        ("resize", "not-checked", "no-figures"),
        ("normalize", "passed", None),
    ]
    assert replayed.clip is not None


def test_without_a_golden_clip_nothing_is_checked(tmp_path: Path) -> None:
    replayed = golden_input(make_bundle(tmp_path / "b.edgeact"))
    assert {result.unchecked for result in replayed.stages} == {"no-golden-clip"}
    assert (replayed.clip, replayed.missing) == (None, "no-golden-clip")


def test_without_opencv_the_network_starts_from_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, old = make_checked_bundle(tmp_path / "a.edgeact"), make_golden_bundle(tmp_path / "b.edgeact")
    expected = golden_input(exact).clip
    monkeypatch.setattr("edgeact.runtime.golden.is_installed", lambda module: module != "cv2")
    replayed = golden_input(exact)
    assert {result.unchecked for result in replayed.stages} == {"no-opencv"}
    np.testing.assert_array_equal(replayed.clip, expected)
    assert (golden_input(old).clip, golden_input(old).missing) == (None, "no-opencv")


def test_a_video_that_cannot_be_decoded_here_leaves_the_network_to_check(tmp_path: Path) -> None:
    exact = make_checked_bundle(tmp_path / "a.edgeact")
    replayed = golden_input(make_checked_bundle(tmp_path / "b.edgeact", video="golden/pixels.bin"))
    assert {result.unchecked for result in replayed.stages} == {"no-decoder"}
    np.testing.assert_array_equal(replayed.clip, golden_input(exact).clip)


def test_frames_that_decode_differently_and_no_pixels_leave_nothing_to_check(tmp_path: Path) -> None:
    other = make_checked_bundle(tmp_path / "b.edgeact", frames_sha256="0" * 64, pixels=None, frames_mean=())
    replayed = golden_input(other)
    assert [result.unchecked for result in replayed.stages] == ["no-figures", "no-figures", "decoded-differently"]
    assert (replayed.clip, replayed.missing) == (None, "decoded-differently")


def test_pixels_that_are_no_such_stream_are_an_error_of_the_bundle(tmp_path: Path) -> None:
    path = make_checked_bundle(tmp_path / "b.edgeact", pixels="golden/clip.mp4").path
    with pytest.raises(BundleSchemaError, check=names("pixels of the golden clip")):
        load(path)
    load(path, check="never").close()
