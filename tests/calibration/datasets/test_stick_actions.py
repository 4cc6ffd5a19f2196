from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.calibration.datasets import StickActionsConfig, generate_stick_actions, load_dataset, render_clip
from edgeact.calibration.datasets.stick_actions import LABELS, MARKER, SPLITS
from edgeact.clip import ClipSpec
from edgeact.errors import DatasetError, StorageError, UsageError
from edgeact.video import preprocess, probe_video, read_clips, window_starts
from tests.messages import names

SMALL = StickActionsConfig(train=24, val=12, test=24, size=(64, 48), persons=(2, 1, 2))
CLIPS = [
    ClipSpec(clip_frames=frames, fps=fps, resize=(64, 64), crop=(64, 64), mean=(0.5,) * 3, std=(0.25,) * 3)
    for frames, fps in ((8, 6.0), (16, 12.0))
]


@settings(max_examples=25)
@given(index=st.integers(0, 10_000), split=st.sampled_from(SPLITS), seed=st.integers(0, 2**31))
def test_render_clip_opposite_has_the_same_frames_in_reverse(index: int, split: str, seed: int) -> None:
    config = StickActionsConfig(seed=seed, size=(64, 48))
    clip, other = render_clip(config, split, index), render_clip(config, split, index, opposite=True)
    assert (clip.label ^ 1, clip.fps, clip.person) == (other.label, other.fps, other.person)
    np.testing.assert_array_equal(other.frames, clip.frames[::-1])


@pytest.mark.parametrize("pair", range(0, len(LABELS), 2), ids=lambda pair: f"{LABELS[pair]}/{LABELS[pair + 1]}")
def test_render_clip_pairs_differ_in_the_order_of_frames_only(pair: int) -> None:
    """Half of the clips are scored as rendered, half as their opposite; a bag of frames cannot separate the two."""
    config = StickActionsConfig(size=(64, 48))
    clips = [render_clip(config, "test", pair + 12 * number) for number in range(4)]
    others = [render_clip(config, "test", pair + 12 * number, opposite=True) for number in range(4)]
    for clip, other in zip(clips, others, strict=True):
        bag, other_bag = (Counter(frame.tobytes() for frame in rendered.frames) for rendered in (clip, other))
        assert bag == other_bag
        order, other_order = (
            np.diff(rendered.frames.astype(np.float32), axis=0)[:5].mean(0) for rendered in (clip, other)
        )
        assert np.abs(order - other_order).max() > 2.0


@pytest.mark.parametrize(("label", "sign"), [("walk-right", 1), ("walk-left", -1)])
def test_render_clip_walks_in_the_direction_of_the_label(label: str, sign: int) -> None:
    config = StickActionsConfig()
    right = 0
    for number in range(20):
        frames = render_clip(config, "test", LABELS.index(label) + 12 * number).frames.astype(np.float32)
        # The walker is what differs between the ends; it hides background at the start, and elsewhere at the end.
        still = np.median(frames, axis=0)
        start, end = (np.abs(part.mean(axis=0) - still).sum(axis=(0, 2)) ** 2 for part in (frames[:5], frames[-5:]))
        columns = np.arange(frames.shape[2])
        right += sign * ((columns @ end) / end.sum() - (columns @ start) / start.sum()) > 0
    assert right >= 18


@pytest.mark.parametrize("clip", CLIPS, ids=["8 at 6", "16 at 12"])
def test_one_window_covers_the_action_to_its_end(tmp_path: Path, clip: ClipSpec) -> None:
    dataset = generate_stick_actions(tmp_path, SMALL)
    for item in dataset.split("test"):
        info = probe_video(item.path)
        assert window_starts(info.duration_s, clip) == (0.0,)
        assert info.duration_s >= clip.duration_s - 1e-9
        (frames,) = read_clips(item.path, clip, (0.0,))
        assert preprocess(frames, clip).shape == clip.input_shape


def test_render_clip_is_deterministic_and_varied() -> None:
    clips = [render_clip(SMALL, split, index) for split in SPLITS for index in (0, 12)]
    again = [render_clip(SMALL, split, index) for split in SPLITS for index in (0, 12)]
    assert [clip.frames.tobytes() for clip in clips] == [clip.frames.tobytes() for clip in again]
    assert len({clip.frames.tobytes() for clip in clips}) == len(clips)
    other_seed = StickActionsConfig(**{**SMALL.__dict__, "seed": 1})
    assert render_clip(other_seed, "train", 0).frames.tobytes() != clips[0].frames.tobytes()


def test_render_clip_is_independent_of_the_size_of_the_split() -> None:
    larger = StickActionsConfig(**{**SMALL.__dict__, "test": 4800})
    np.testing.assert_array_equal(render_clip(SMALL, "test", 7).frames, render_clip(larger, "test", 7).frames)


def test_generate_stick_actions_is_balanced_readable_and_keeps_persons_apart(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    dataset = generate_stick_actions(tmp_path, SMALL, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (60, 60)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert {split: len(items) for split, items in dataset.splits.items()} == {"train": 24, "val": 12, "test": 24}
    for items in dataset.splits.values():
        assert len(set(Counter(item.label for item in items).values())) == 1
        for item in items:
            assert item.path.parent.name == dataset.labels[item.label]
            assert item.path.name.startswith(item.group)
    persons = [{item.group for item in items} for items in dataset.splits.values()]
    assert sum(map(len, persons)) == len(set.union(*persons)) == 5
    info = probe_video(dataset.split("train")[0].path)
    assert (info.width, info.height) == SMALL.size
    assert info.frames == len(render_clip(SMALL, "train", 0).frames)
    assert json.loads((tmp_path / MARKER).read_text())["complete"] is True


def test_generate_stick_actions_writes_the_rendered_frames(tmp_path: Path) -> None:
    config = StickActionsConfig(train=12, val=0, test=0)
    item = generate_stick_actions(tmp_path, config).split("train")[5]
    clip = render_clip(config, "train", 5)
    whole = ClipSpec(**{**CLIPS[0].model_dump(), "clip_frames": len(clip.frames), "fps": clip.fps})
    (decoded,) = read_clips(item.path, whole, (0.0,))
    assert np.abs(decoded.astype(np.float32) - clip.frames).mean() < 8.0
    assert "val" not in load_dataset(f"stick-actions:{tmp_path}?train=12&val=0&test=0").splits


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_generate_stick_actions_with_an_executor_writes_the_same_bytes(tmp_path: Path, kind: str) -> None:
    config = StickActionsConfig(train=48, val=0, test=0, size=(64, 48), persons=(2, 1, 2))
    alone = generate_stick_actions(tmp_path / "alone", config)
    with ThreadPoolExecutor(2) if kind == "threads" else ProcessPoolExecutor(2, get_context("spawn")) as executor:
        shared = generate_stick_actions(tmp_path / "shared", config, executor=executor)
    assert alone.digest("train") == shared.digest("train")


def test_generate_stick_actions_resumes_after_an_interruption(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_stick_actions(tmp_path, SMALL, interrupt)
    assert json.loads((tmp_path / MARKER).read_text())["complete"] is False
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")}
    assert 0 < len(written) < 60
    calls: list[tuple[int, int]] = []
    dataset = generate_stick_actions(tmp_path, SMALL, lambda done, total: calls.append((done, total)))
    assert {total for _, total in calls} == {60 - len(written)}
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert calls[-1] == (60 - len(written), 60 - len(written))
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())
    assert dataset.digest("test") == generate_stick_actions(tmp_path, SMALL).digest("test")
    lost = dataset.split("test")[3].path
    lost.unlink()
    generate_stick_actions(tmp_path, SMALL)
    assert lost.is_file()


def test_generate_stick_actions_refuses_a_folder_of_another_configuration(tmp_path: Path) -> None:
    spec = f"stick-actions:{tmp_path}?train=12&val=0&test=0&size=64x48&persons=1x1x1"
    assert load_dataset(spec).digest("train") == load_dataset(spec).digest("train")
    with pytest.raises(DatasetError, check=names("another configuration", "seed")):
        load_dataset(spec + "&seed=1")
    (tmp_path / MARKER).write_text("[]")
    with pytest.raises(DatasetError, check=names("not the marker")):
        load_dataset(spec)


def test_load_stick_actions_without_a_path_uses_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path))
    dataset = load_dataset("stick-actions?train=12&val=0&test=0&size=64x48&persons=1x1x1")
    assert dataset.root.is_relative_to(tmp_path)
    assert dataset.name == "stick-actions"


def test_generate_stick_actions_raises_storage_error_if_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, check=names("cannot write")):
        generate_stick_actions(tmp_path / "file" / "below", SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("train=-1", "expected clips"),
        ("train=0&val=0&test=0", "expected clips"),
        ("train=many", "expected an integer"),
        ("train=1x2", "expected one number"),
        ("size=64", "expected size"),
        ("size=33x33", "expected size"),
        ("persons=1x1", "three persons"),
        ("persons=0x1x1", "three persons"),
        ("seed=-1", "expected seed"),
        ("color=red", "no option color; expected options of: persons"),
    ],
)
def test_load_stick_actions_refuses_bad_options(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(UsageError, check=names(message)):
        load_dataset(f"stick-actions:{tmp_path}?{options}")


@pytest.mark.parametrize(("split", "index"), [("validation", 0), ("train", -1)])
def test_render_clip_refuses_unknown_splits_and_negative_indices(split: str, index: int) -> None:
    with pytest.raises(UsageError, check=names("expected a split")):
        render_clip(SMALL, split, index)


@pytest.mark.parametrize(
    ("split", "index", "frames", "fps", "person", "mean", "deviation"),
    [
        ("train", 0, 40, 30.0, "person000", 130.46, 23.25),
        ("val", 5, 36, 27.0, "person060", 60.45, 29.58),
        ("test", 1234, 29, 21.0, "person094", 159.34, 17.16),
    ],
)
def test_render_clip_equals_the_clips_that_shipped_weights_were_trained_on(  # noqa: PLR0913 - one row of a table
    split: str, index: int, frames: int, fps: float, person: str, mean: float, deviation: float
) -> None:
    """Compare with recorded values of the default data set; if they change, increase the version of the renderer."""
    clip = render_clip(StickActionsConfig(), split, index)
    assert (len(clip.frames), clip.fps, clip.person) == (frames, fps, person)
    assert clip.frames.mean() == pytest.approx(mean, abs=0.1)
    assert clip.frames[frames // 2].std() == pytest.approx(deviation, abs=0.1)
