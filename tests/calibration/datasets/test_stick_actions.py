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

SMALL = StickActionsConfig(train=24, val=12, test=24, size=(64, 48), persons=(2, 1, 2))
CLIPS = [
    ClipSpec(clip_frames=frames, fps=fps, resize=(64, 64), crop=(64, 64), mean=(0.5,) * 3, std=(0.25,) * 3)
    for frames, fps in ((8, 6.0), (16, 12.0))
]


@settings(max_examples=25, deadline=None)
@given(index=st.integers(0, 10_000), split=st.sampled_from(SPLITS), seed=st.integers(0, 2**31))
def test_the_other_class_of_a_pair_is_the_same_frames_in_reverse(index: int, split: str, seed: int) -> None:
    config = StickActionsConfig(seed=seed, size=(64, 48))
    clip, other = render_clip(config, split, index), render_clip(config, split, index, opposite=True)
    assert (clip.label ^ 1, clip.fps, clip.person) == (other.label, other.fps, other.person)
    np.testing.assert_array_equal(other.frames, clip.frames[::-1])


@pytest.mark.parametrize("pair", range(0, len(LABELS), 2), ids=lambda pair: f"{LABELS[pair]}/{LABELS[pair + 1]}")
def test_no_orderless_statistic_separates_a_pair_but_order_does(pair: int) -> None:
    """Half the clips are scored as they are, half as their opposite: a bag of frames cannot even tell that apart."""
    config = StickActionsConfig(size=(64, 48))
    clips = [render_clip(config, "test", pair + 12 * number) for number in range(4)]
    others = [render_clip(config, "test", pair + 12 * number, opposite=True) for number in range(4)]
    for clip, other in zip(clips, others, strict=True):
        bag, other_bag = (Counter(frame.tobytes() for frame in one.frames) for one in (clip, other))
        assert bag == other_bag
        order, other_order = (np.diff(one.frames.astype(np.float32), axis=0)[:5].mean(0) for one in (clip, other))
        assert np.abs(order - other_order).max() > 2.0


@pytest.mark.parametrize(("label", "sign"), [("walk-right", 1), ("walk-left", -1)])
def test_walkers_go_where_their_label_says_mirrored_or_not(label: str, sign: int) -> None:
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


def test_clips_are_deterministic_and_vary() -> None:
    clips = [render_clip(SMALL, split, index) for split in SPLITS for index in (0, 12)]
    again = [render_clip(SMALL, split, index) for split in SPLITS for index in (0, 12)]
    assert [clip.frames.tobytes() for clip in clips] == [clip.frames.tobytes() for clip in again]
    assert len({clip.frames.tobytes() for clip in clips}) == len(clips)
    other_seed = StickActionsConfig(**{**SMALL.__dict__, "seed": 1})
    assert render_clip(other_seed, "train", 0).frames.tobytes() != clips[0].frames.tobytes()


def test_a_larger_split_begins_with_the_clips_of_a_smaller_one() -> None:
    larger = StickActionsConfig(**{**SMALL.__dict__, "test": 4800})
    np.testing.assert_array_equal(render_clip(SMALL, "test", 7).frames, render_clip(larger, "test", 7).frames)


def test_generated_tree_is_balanced_person_disjoint_and_readable(tmp_path: Path) -> None:
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


def test_the_videos_are_the_rendered_frames_up_to_the_encoder(tmp_path: Path) -> None:
    config = StickActionsConfig(train=12, val=0, test=0)
    item = generate_stick_actions(tmp_path, config).split("train")[5]
    clip = render_clip(config, "train", 5)
    whole = ClipSpec(**{**CLIPS[0].model_dump(), "clip_frames": len(clip.frames), "fps": clip.fps})
    (decoded,) = read_clips(item.path, whole, (0.0,))
    assert np.abs(decoded.astype(np.float32) - clip.frames).mean() < 8.0
    assert "val" not in load_dataset(f"stick-actions:{tmp_path}?train=12&val=0&test=0").splits


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_an_executor_writes_the_same_bytes(tmp_path: Path, kind: str) -> None:
    config = StickActionsConfig(train=48, val=0, test=0, size=(64, 48), persons=(2, 1, 2))
    alone = generate_stick_actions(tmp_path / "alone", config)
    with ThreadPoolExecutor(2) if kind == "threads" else ProcessPoolExecutor(2, get_context("spawn")) as executor:
        shared = generate_stick_actions(tmp_path / "shared", config, executor=executor)
    assert alone.digest("train") == shared.digest("train")


def test_interrupted_generation_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_stick_actions(tmp_path, SMALL, interrupt)
    assert json.loads((tmp_path / MARKER).read_text())["complete"] is False
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")}
    assert 0 < len(written) < 60
    told: list[tuple[int, int]] = []
    dataset = generate_stick_actions(tmp_path, SMALL, lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {60 - len(written)}
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (60 - len(written), 60 - len(written))
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())
    assert dataset.digest("test") == generate_stick_actions(tmp_path, SMALL).digest("test")
    lost = dataset.split("test")[3].path
    lost.unlink()
    generate_stick_actions(tmp_path, SMALL)
    assert lost.is_file()


def test_another_configuration_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    spec = f"stick-actions:{tmp_path}?train=12&val=0&test=0&size=64x48&persons=1x1x1"
    assert load_dataset(spec).digest("train") == load_dataset(spec).digest("train")
    with pytest.raises(DatasetError, match=r"another configuration.*seed"):
        load_dataset(spec + "&seed=1")
    (tmp_path / MARKER).write_text("[]")
    with pytest.raises(DatasetError, match="no marker"):
        load_dataset(spec)


def test_without_a_path_it_lies_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path))
    dataset = load_dataset("stick-actions?train=12&val=0&test=0&size=64x48&persons=1x1x1")
    assert dataset.root.is_relative_to(tmp_path)
    assert dataset.name == "stick-actions"


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        generate_stick_actions(tmp_path / "file" / "below", SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("train=-1", "needs clips"),
        ("train=0&val=0&test=0", "needs clips"),
        ("train=many", "whole number"),
        ("train=1x2", "takes one number"),
        ("size=64", "size must be"),
        ("size=33x33", "size must be"),
        ("persons=1x1", "persons three"),
        ("persons=0x1x1", "persons three"),
        ("seed=-1", "seed must be"),
        ("colour=red", "no option colour; it has: persons"),
    ],
)
def test_bad_options_say_what_was_expected(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_dataset(f"stick-actions:{tmp_path}?{options}")


@pytest.mark.parametrize(("split", "index"), [("validation", 0), ("train", -1)])
def test_there_is_no_such_clip(split: str, index: int) -> None:
    with pytest.raises(UsageError, match="expected a split"):
        render_clip(SMALL, split, index)


@pytest.mark.parametrize(
    ("split", "index", "frames", "fps", "person", "mean", "deviation"),
    [
        ("train", 0, 40, 30.0, "person000", 130.46, 23.25),
        ("val", 5, 36, 27.0, "person060", 60.45, 29.58),
        ("test", 1234, 29, 21.0, "person094", 159.34, 17.16),
    ],
)
def test_the_clips_that_weights_were_trained_on_stay_the_same(  # noqa: PLR0913 - one row of a table
    split: str, index: int, frames: int, fps: float, person: str, mean: float, deviation: float
) -> None:
    """Recorded figures of the default data set. Where they change, raise the renderer's number."""
    clip = render_clip(StickActionsConfig(), split, index)
    assert (len(clip.frames), clip.fps, clip.person) == (frames, fps, person)
    assert clip.frames.mean() == pytest.approx(mean, abs=0.1)
    assert clip.frames[frames // 2].std() == pytest.approx(deviation, abs=0.1)
