from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeact.bundle import Bundle
from edgeact.calibration import evaluation
from edgeact.calibration.accuracy import Scores, require_videos, score_videos
from edgeact.calibration.datasets import LOADING_STEP, Dataset, VideoItem, load_dataset
from edgeact.calibration.evaluation import EvaluationPlan, evaluate_bundle, match_labels
from edgeact.clip import ClipSpec
from edgeact.errors import BackendUnavailableError, DatasetError, DeviceError, UnknownNameError
from edgeact.executors import Executors
from tests.bench.bundles import make_golden_bundle
from tests.export.colours import write_colours
from tests.messages import names
from tests.runtime.making import LABELS

Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("colours"), persons=6)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_golden_bundle(tmp_path_factory.mktemp("bundle") / "tiny.edgeact")


def test_evaluate_bundle_matches_labels_by_name(bundle: Bundle, videos: Path) -> None:
    assert load_dataset(str(videos)).labels != LABELS  # the data set sorts its labels, the model does not
    record = evaluate_bundle(bundle.path, EvaluationPlan(f"folder:{videos}?test=0.5&val=0", threads=1))
    clips, of_videos = record.accuracy
    assert (of_videos.count, clips.count) == (12, 24)
    assert of_videos.top1 == clips.top1 == 1.0
    assert [accuracy.label for accuracy in of_videos.per_class] == list(LABELS)
    assert [accuracy.correct for accuracy in of_videos.per_class] == [3, 3, 3, 3]
    assert record.bundle_digest == bundle.digest
    assert of_videos.split == "test"
    assert of_videos.top5 is None


def test_evaluate_bundle_balances_a_limited_number_of_videos_and_records_their_digest(
    bundle: Bundle, videos: Path
) -> None:
    spec = f"folder:{videos}?test=0.5&val=0"
    steps: list[tuple[str, int, int]] = []
    part = evaluate_bundle(bundle.path, EvaluationPlan(spec, videos=4, threads=1), lambda *step: steps.append(step))
    whole = evaluate_bundle(bundle.path, EvaluationPlan(spec, threads=1))
    assert [accuracy.count for accuracy in part.accuracy[1].per_class] == [1, 1, 1, 1]
    assert part.accuracy[0].data_digest != whole.accuracy[0].data_digest
    assert list(dict.fromkeys(title for title, _, _ in steps)) == [
        LOADING_STEP,
        "opening the bundle",
        "evaluating",
        "hashing the videos",
    ]
    assert ("evaluating", 4, 4) in steps


@pytest.mark.parametrize(
    ("plan", "error", "words"),
    [
        ({"split": "tset"}, DatasetError, "has no split 'tset'; expected one of: test, train, val"),
        ({"artifact": "absent"}, UnknownNameError, "unknown artifact 'absent'"),
        ({"backend": "onnxrutime"}, UnknownNameError, "did you mean onnxruntime"),
        ({"backend": "openvino"}, BackendUnavailableError, "opens none of the artifacts"),
    ],
)
def test_evaluate_bundle_refuses_unknown_splits_artifacts_and_backends(
    plan: dict[str, str], error: type[Exception], words: str, bundle: Bundle, videos: Path
) -> None:
    with pytest.raises(error) as caught:
        evaluate_bundle(bundle.path, EvaluationPlan(str(videos), **plan))  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_evaluate_bundle_counts_unreadable_videos(bundle: Bundle, tmp_path: Path) -> None:
    write_colours(tmp_path, persons=2)
    for path in tmp_path.glob("red/*.mp4"):
        path.write_bytes(b"no video")
    record = evaluate_bundle(bundle.path, EvaluationPlan(f"folder:{tmp_path}?test=0&val=0", threads=1))
    assert record.accuracy[1].skipped == {"unreadable": 2}
    assert record.accuracy[1].count == 6
    assert record.accuracy[1].split == "train"


def test_match_labels_names_the_labels_that_the_model_lacks() -> None:
    item = VideoItem(Path("/v/a.mp4"), 1, "a")
    dataset = Dataset("made", Path("/v"), ("blue", "violet"), {"test": (item,)})
    with pytest.raises(DatasetError, check=names("1 labels the model does not know (violet)", "dark, red, green")):
        match_labels(dataset, LABELS)
    known = Dataset("made", Path("/v"), ("blue", "green"), {"test": (item,)})
    assert match_labels(known, LABELS).splits["test"][0].label == LABELS.index("green")


@pytest.mark.slow
def test_evaluate_bundle_on_workers_equals_one_process(
    bundle: Bundle, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluate chunks of five videos."""
    monkeypatch.setattr(evaluation, "_CHUNK", 5)
    plan = EvaluationPlan(f"folder:{videos}?test=0.5&val=0", threads=1)
    steps: list[tuple[int, int]] = []
    whole = evaluate_bundle(bundle.path, plan)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        executors = Executors(pool, pool, 2)
        parts = evaluate_bundle(bundle.path, plan, lambda title, *step: steps.append(step), executors)
    assert parts.model_copy(update={"created_utc": whole.created_utc, "machine": whole.machine}) == whole
    assert (12, 12) in steps


def test_scores_concatenate_keeps_the_order_and_accepts_empty_parts(videos: Path) -> None:
    items = load_dataset(f"folder:{videos}?test=0.5&val=0").split("test")
    broken = [VideoItem(videos / "no.mp4", 0, "nobody")]
    clip = ClipSpec(clip_frames=4, fps=8, resize=(32, 32), crop=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))

    def run(array: Array) -> Array:
        means: Array = array.mean(axis=(0, 2, 3, 4))
        return means

    whole = score_videos({"a": run}, [*items[:3], *broken, *items[3:]], clip)["a"]
    parts = [score_videos({"a": run}, part, clip)["a"] for part in (items[:3], broken, items[3:])]
    concatenated = Scores.concatenate(parts)
    for scores, expected in ((concatenated.videos(), whole.videos()), (concatenated.clips(), whole.clips())):
        assert np.array_equal(scores[0], expected[0])
        assert np.array_equal(scores[1], expected[1])
    assert concatenated.skipped == whole.skipped == {"unreadable": 1}
    with pytest.raises(DatasetError):
        require_videos(parts[1], 1)


def test_evaluate_part_refuses_another_bundle_at_the_same_path(bundle: Bundle, videos: Path) -> None:
    items = load_dataset(f"folder:{videos}?test=0.5&val=0").split("test")
    with pytest.raises(DeviceError):
        evaluation._evaluate_part(bundle.path, "0" * 64, EvaluationPlan(str(videos)), items[:1])
