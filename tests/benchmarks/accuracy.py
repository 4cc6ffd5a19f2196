"""Accuracy drop of the trained bundles against PyTorch and the peer on held-out videos; agreement on real video."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from edgeact.calibration.accuracy import BatchRun, Scores, collect_scores
from edgeact.calibration.clips import sample_clips
from edgeact.calibration.datasets import VideoItem, load_dataset
from edgeact.calibration.evaluation import match_labels
from edgeact.calibration.paired_test import compare_paired
from edgeact.records import PairedDrop
from edgeact.runtime import Recognizer, load
from edgeact.storage import atomic_write, cache_folder
from tests.benchmarks.processes import ROOT
from tests.benchmarks.records import BenchRow
from tests.benchmarks.subjects import nncf_default_int8
from tests.benchmarks.weights import DATA
from tests.benchmarks.workspace import Workspace

__all__ = ["NAMES", "OURS", "PEER", "PRUNED", "accuracy", "claims"]

Array = NDArray[np.float32]
Run = Callable[[Array], Array]

_REAL = ROOT.parent / "shared" / "data" / "ut_interaction"
_SAME_POINTS, _DROP_POINTS, _DROP_HIGH_POINTS = 0.5, 1.0, 2.0
NAMES = PEER, OURS, PRUNED = "OpenVINO INT8 by NNCF defaults", "bundle", "pruned bundle"


def accuracy(workspace: Workspace) -> list[BenchRow]:
    """Return the rows of the trained bundles on the test split; none with random weights."""
    if not workspace.settings.trained:
        workspace.on_step("no accuracy: the weights are random; python -m tests.benchmarks.weights trains them")
        return []
    threads = workspace.settings.threads
    with (
        load(str(workspace.export("cpu").path), threads=threads) as ours,
        load(str(workspace.export("cpu", pruned=True).path), threads=threads) as pruned,
    ):
        peer = nncf_default_int8(workspace.peer, workspace.data.calibration.inputs, threads)
        runs = {PEER: peer.run, OURS: _runner(ours), PRUNED: _runner(pruned)}
        drops = _drops(workspace, runs)
        rows = claims(drops, applies=workspace.settings.limits_apply)
        return [*rows, *_on_real_clips(workspace, {OURS: runs[OURS], PRUNED: runs[PRUNED]})]


def _runner(recognizer: Recognizer) -> Run:
    return lambda clip: recognizer.session.run(clip).logits


def _drops(workspace: Workspace, runs: Mapping[str, Run]) -> dict[str, PairedDrop]:
    """Return the drop of each against PyTorch and, as 'peer', that of the bundle against the peer."""
    items = match_labels(load_dataset(DATA), workspace.model.labels).split("test")
    workspace.on_step(f"classifying {len(items)} held-out videos")
    correct = {name: _correct(score) for name, score in collect_scores(runs, items, workspace.model.clip).items()}
    reference = _correct_in_pytorch(workspace, items)
    drops = {name: compare_paired(reference, candidate, _DROP_POINTS) for name, candidate in correct.items()}
    return {**drops, "peer": compare_paired(correct[PEER], correct[OURS], _SAME_POINTS)}


def _correct(scores: Scores) -> NDArray[np.bool_]:
    probabilities, labels = scores.videos()
    return np.asarray(probabilities.argmax(axis=1) == labels)


def _correct_in_pytorch(workspace: Workspace, items: tuple[VideoItem, ...]) -> NDArray[np.bool_]:
    """Return which videos PyTorch classifies correctly; cached by weights and videos, as it takes minutes."""
    key = hashlib.sha256(f"{workspace.model.weights_sha256} {DATA} {len(items)}".encode()).hexdigest()[:32]
    path = cache_folder() / "bench" / f"right-{key}.npy"
    if not path.is_file():
        workspace.on_step("classifying them in PyTorch")
        torch.set_num_threads(workspace.settings.threads)
        scores = collect_scores({"pytorch": _in_pytorch(workspace)}, items, workspace.model.clip)["pytorch"]
        with atomic_write(path) as file:
            np.save(file, _correct(scores))
    return np.asarray(np.load(path), dtype=bool)


def _in_pytorch(workspace: Workspace) -> BatchRun:
    def run(clip: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(workspace.model.module(torch.from_numpy(clip)).numpy())

    return BatchRun(run)


def claims(drops: Mapping[str, PairedDrop], *, applies: bool) -> list[BenchRow]:
    """Return three rows with limits, then the drop of each subject of NAMES; `drops` also has 'peer'."""
    same, pruned = drops["peer"], drops[PRUNED]
    high = pruned.interval.high
    limits = (
        ("top-1 that the bundle loses against the peer", same.drop_points, _counts(same), _SAME_POINTS),
        ("top-1 that the pruned bundle loses", pruned.drop_points, _counts(pruned), _DROP_POINTS),
        ("the most that it loses, 95 %", high, "upper bound of the paired bootstrap", _DROP_HIGH_POINTS),
    )
    rows = [
        BenchRow(name=name, value=value, unit="points", how=how).judged(limit, applies=applies)
        for name, value, how, limit in limits
    ]
    for name in NAMES:
        drop, title = drops[name], f"top-1 lost against PyTorch, {name}"
        rows.append(
            BenchRow(name=title, value=drop.drop_points, unit="points", interval=drop.interval, how=_counts(drop))
        )
    return rows


def _counts(drop: PairedDrop) -> str:
    correct = drop.reference_correct - drop.lost + drop.gained
    return (
        f"{correct} against {drop.reference_correct} of {drop.count} held-out videos right, {drop.lost} lost and "
        f"{drop.gained} won, McNemar's p {drop.p_value:.2g}"
    )


def _on_real_clips(workspace: Workspace, runs: Mapping[str, Run]) -> list[BenchRow]:
    """Return the top-1 agreement with PyTorch on real video, whose classes differ from those of the model."""
    if not (_REAL / "splits.csv").is_file():
        workspace.on_step(f"no agreement on real clips: there are none in {_REAL}")
        return []
    items = tuple(item for split in load_dataset(f"folder:{_REAL}").splits.values() for item in split)
    workspace.on_step(f"comparing with PyTorch on {len(items)} real videos")
    clips = sample_clips(items, workspace.model.clip, len(items)).inputs
    reference = np.array([_in_pytorch(workspace).run(clip).argmax() for clip in clips])
    how = f"{len(clips)} clips of UT-Interaction, one a video, by the model of stick figures"
    rows = []
    for name, run in runs.items():
        same = float((np.array([run(clip).argmax() for clip in clips]) == reference).mean())
        title = f"same class as PyTorch on real clips, {name}"
        rows.append(BenchRow(name=title, value=100 * same, unit="%", how=how))
    return rows
