"""Predictions: numbers, orders of channels, buffers, wrong frames."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeact import runtime
from edgeact.errors import BundleTruncatedError, InputError, UsageError
from edgeact.runtime import FakeBackend, softmax
from edgeact.video import preprocess
from tests.messages import names
from tests.runtime.making import CLIP, LABELS, colored, reference, tiny_onnx


def test_colors_are_recognized(bundle_path: Path) -> None:
    with runtime.load(bundle_path) as recognizer:
        assert recognizer.labels == LABELS
        for channel, label in enumerate(LABELS[1:]):
            prediction = recognizer.predict(colored(channel))
            assert prediction.label == label == prediction.top[0][0]


def test_the_prediction_is_the_softmax_of_the_graphs_logits(bundle_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (CLIP.clip_frames, 50, 60, 3), np.uint8)
    expected = softmax(reference(tiny_onnx(), preprocess(frames, CLIP))[0])
    with runtime.load(bundle_path) as recognizer:
        prediction = recognizer.predict(frames)
    np.testing.assert_allclose(prediction.scores, expected, atol=1e-5)
    assert prediction.scores.dtype == np.float32
    assert [label for label, _ in prediction.best(2)] == [LABELS[index] for index in np.argsort(-expected)[:2]]


def test_bgr_frames_give_the_same_as_rgb(bundle_path: Path) -> None:
    frames = colored(0)
    with runtime.load(bundle_path) as recognizer:
        rgb = recognizer.predict(frames).scores
        np.testing.assert_array_equal(recognizer.predict(frames[..., ::-1].copy(), order="bgr").scores, rgb)
        assert recognizer.predict(frames, order="bgr").label == "blue"


def test_frames_of_any_size_and_as_a_sequence(bundle_path: Path) -> None:
    with runtime.load(bundle_path) as recognizer:
        mixed = [colored(1, 1, size)[0] for size in ((16, 16), (480, 640), (33, 7), (100, 1))]
        assert recognizer.predict(mixed).label == "green"


def test_earlier_predictions_do_not_change(bundle_path: Path) -> None:
    with runtime.load(bundle_path) as recognizer:
        first = recognizer.predict(colored(0))
        kept = first.scores.copy()
        recognizer.predict(colored(2))
        np.testing.assert_array_equal(first.scores, kept)


def test_threads_may_share_a_recognizer(bundle_path: Path) -> None:
    channels = [index % 3 for index in range(24)]
    with runtime.load(bundle_path) as recognizer, ThreadPoolExecutor(4) as pool:
        labels = list(pool.map(lambda channel: recognizer.predict(colored(channel)).label, channels))
    assert labels == [LABELS[channel + 1] for channel in channels]


def test_stage_times_add_up(bundle_path: Path) -> None:
    with runtime.load(bundle_path) as recognizer:
        times = recognizer.predict(colored(0)).times
    assert 0 < times.preprocess_ms + times.inference_ms <= times.total_ms


def test_logits_of_a_prepared_clip(bundle_path: Path) -> None:
    clip = preprocess(colored(0), CLIP)
    with runtime.load(bundle_path) as recognizer:
        np.testing.assert_allclose(recognizer.logits(clip), reference(tiny_onnx(), clip)[0], atol=1e-4)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (colored(0, 3), ("expected 4 frames (clip_frames), got 3",)),
        (colored(0).astype(np.float32), ("expected uint8", "got float32")),
        (colored(0)[..., 0], ("frame 0: expected uint8 of shape (height, width, 3)",)),
        ([], ("expected 4 frames",)),
    ],
)
def test_wrong_frames_are_named(bundle_path: Path, frames: Any, message: tuple[str, ...]) -> None:
    with runtime.load(bundle_path) as recognizer, pytest.raises(InputError, check=names(*message)):
        recognizer.predict(frames)


def test_unknown_order_and_closed_recognizer(bundle_path: Path) -> None:
    recognizer = runtime.load(bundle_path)
    with pytest.raises(UsageError, check=names("expected 'rgb' or 'bgr', got 'gbr'")):
        recognizer.predict(colored(0), order="gbr")  # type: ignore[arg-type]
    recognizer.close()
    with pytest.raises(UsageError, check=names("closed")):
        recognizer.predict(colored(0))


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, check=names("no file")):
        runtime.load(tmp_path / "none.edgeact")
    (tmp_path / "short.edgeact").write_bytes(b"PK")
    with pytest.raises(BundleTruncatedError):
        runtime.load(tmp_path / "short.edgeact")


def test_equal_scores_keep_the_labels_order(bundle_path: Path) -> None:
    with runtime.load(bundle_path, backend=FakeBackend(logits=np.zeros(4, np.float32))) as recognizer:
        assert recognizer.predict(colored(0)).top == tuple((label, 0.25) for label in LABELS)


@given(arrays(np.float32, 5, elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_softmax_sums_to_one_and_keeps_the_order(logits: Any) -> None:
    scores = softmax(logits)
    assert scores.dtype == np.float32
    assert abs(float(scores.sum()) - 1) < 1e-5
    assert scores[logits.argmax()] == scores.max()
