"""What the trained bundles lose: against PyTorch and the peer on held-out clips, and on real video of other people."""

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
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.records import PairedDrop
from edgeact.runtime import Recognizer, load
from edgeact.storage import atomic_write, cache_folder
from tests.benchmarks.processes import ROOT
from tests.benchmarks.records import BenchRow
from tests.benchmarks.subjects import nncf_default_int8
from tests.benchmarks.weights import DATA
from tests.benchmarks.workshop import Workshop

__all__ = ["NAMES", "OURS", "PEER", "PRUNED", "accuracy", "claims"]

Array = NDArray[np.float32]
Run = Callable[[Array], Array]

_REAL = ROOT.parent / "shared" / "data" / "ut_interaction"
_SAME_POINTS, _DROP_POINTS, _DROP_HIGH_POINTS = 0.5, 1.0, 2.0
NAMES = PEER, OURS, PRUNED = "OpenVINO INT8 by NNCF defaults", "bundle", "pruned bundle"


def accuracy(shop: Workshop) -> list[BenchRow]:
    """Rows of the trained bundles on the test split; none with random weights."""
    if not shop.settings.trained:
        shop.on_step("no accuracy: the weights are random; python -m tests.benchmarks.weights trains them")
        return []
    threads = shop.settings.threads
    graph = to_onnx(shop.model.module, shop.model.clip).SerializeToString()
    with (
        load(str(shop.export("cpu").path), threads=threads) as ours,
        load(str(shop.export("cpu", pruned=True).path), threads=threads) as pruned,
    ):
        peer = nncf_default_int8(graph, shop.data.calibration.inputs, threads)
        runs = {PEER: peer.run, OURS: _runner(ours), PRUNED: _runner(pruned)}
        drops = _drops(shop, runs)
        rows = claims(drops, applies=shop.settings.limits_apply)
        return [*rows, *_on_real_clips(shop, {OURS: runs[OURS], PRUNED: runs[PRUNED]})]


def _runner(recognizer: Recognizer) -> Run:
    return lambda clip: recognizer.session.run(clip).logits


def _drops(shop: Workshop, runs: Mapping[str, Run]) -> dict[str, PairedDrop]:
    """What each loses against PyTorch, and under 'peer' what the bundle loses against the peer."""
    items = match_labels(load_dataset(DATA), shop.model.labels).split("test")
    shop.on_step(f"recognising {len(items)} held-out videos")
    right = {name: _right(score) for name, score in collect_scores(runs, items, shop.model.clip).items()}
    reference = _right_in_pytorch(shop, items)
    drops = {name: compare_paired(reference, own, _DROP_POINTS) for name, own in right.items()}
    return {**drops, "peer": compare_paired(right[PEER], right[OURS], _SAME_POINTS)}


def _right(scores: Scores) -> NDArray[np.bool_]:
    probabilities, labels = scores.videos()
    return np.asarray(probabilities.argmax(axis=1) == labels)


def _right_in_pytorch(shop: Workshop, items: tuple[VideoItem, ...]) -> NDArray[np.bool_]:
    """Minutes on two cores, so it is kept: the weights and the videos decide it."""
    key = hashlib.sha256(f"{shop.model.weights_sha256} {DATA} {len(items)}".encode()).hexdigest()[:32]
    path = cache_folder() / "bench" / f"right-{key}.npy"
    if not path.is_file():
        shop.on_step("recognising them in PyTorch")
        torch.set_num_threads(shop.settings.threads)
        scores = collect_scores({"pytorch": _in_pytorch(shop)}, items, shop.model.clip)["pytorch"]
        with atomic_write(path) as file:
            np.save(file, _right(scores))
    return np.asarray(np.load(path), dtype=bool)


def _in_pytorch(shop: Workshop) -> BatchRun:
    def run(clip: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(shop.model.module(torch.from_numpy(clip)).numpy())

    return BatchRun(run)


def claims(drops: Mapping[str, PairedDrop], *, applies: bool) -> list[BenchRow]:
    """What is judged, three rows, then what every subject of NAMES loses; `drops` has 'peer' beside them."""
    same, pruned = drops["peer"], drops[PRUNED]
    high = pruned.interval.high
    claims = (
        ("top-1 that the bundle loses against the peer", same.drop_points, _told(same), _SAME_POINTS),
        ("top-1 that the pruned bundle loses", pruned.drop_points, _told(pruned), _DROP_POINTS),
        ("the most that it loses, 95 %", high, "upper bound of the paired bootstrap", _DROP_HIGH_POINTS),
    )
    rows = [
        BenchRow(name=name, value=value, unit="points", how=how).judged(limit, applies=applies)
        for name, value, how, limit in claims
    ]
    for name in NAMES:
        drop, title = drops[name], f"top-1 lost against PyTorch, {name}"
        rows.append(
            BenchRow(name=title, value=drop.drop_points, unit="points", interval=drop.interval, how=_told(drop))
        )
    return rows


def _told(drop: PairedDrop) -> str:
    own = drop.reference_correct - drop.lost + drop.gained
    return (
        f"{own} against {drop.reference_correct} of {drop.count} held-out videos right, {drop.lost} lost and "
        f"{drop.gained} won, McNemar's p {drop.p_value:.2g}"
    )


def _on_real_clips(shop: Workshop, runs: Mapping[str, Run]) -> list[BenchRow]:
    """How often they name the same class as PyTorch on real video, whose classes are others."""
    if not (_REAL / "splits.csv").is_file():
        shop.on_step(f"no agreement on real clips: there are none in {_REAL}")
        return []
    items = tuple(item for split in load_dataset(f"folder:{_REAL}").splits.values() for item in split)
    shop.on_step(f"comparing with PyTorch on {len(items)} real videos")
    clips = sample_clips(items, shop.model.clip, len(items)).inputs
    reference = np.array([_in_pytorch(shop).run(clip).argmax() for clip in clips])
    how = f"{len(clips)} clips of UT-Interaction, one a video, by the model of stick figures"
    rows = []
    for name, run in runs.items():
        same = float((np.array([run(clip).argmax() for clip in clips]) == reference).mean())
        title = f"same class as PyTorch on real clips, {name}"
        rows.append(BenchRow(name=title, value=100 * same, unit="%", how=how))
    return rows
