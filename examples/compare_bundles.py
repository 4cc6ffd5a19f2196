"""Compare two bundles of one clip contract on the same videos: accuracy by a paired test, latency by its ratio.

    python examples/compare_bundles.py before.edgeact after.edgeact folder:clips/

Only videos that one bundle recognizes and the other does not carry information, so that a paired test needs fewer
videos than two accuracies with their own confidence intervals.
"""

import sys

import numpy as np
from numpy.typing import NDArray

import edgeact
from edgeact.bench import median_ratio
from edgeact.calibration.accuracy import Scores, collect_scores
from edgeact.calibration.datasets import load_dataset
from edgeact.calibration.evaluation import match_labels
from edgeact.calibration.paired_test import compare_paired


def is_correct(scores: Scores) -> NDArray[np.bool_]:
    """Return bool `(videos,)`: whether the predicted class is the true one."""
    probabilities, labels = scores.videos()
    correct: NDArray[np.bool_] = probabilities.argmax(axis=1) == labels
    return correct


def main(before: str, after: str, data: str) -> None:
    with edgeact.load(before) as first, edgeact.load(after) as second:
        items = match_labels(load_dataset(data), first.labels).split("test")
        scores = collect_scores({"before": first.logits, "after": second.logits}, items, first.clip)
    drop = compare_paired(is_correct(scores["before"]), is_correct(scores["after"]), max_drop_points=1.0)
    print(f"{drop.count} videos: {drop.lost} lost, {drop.gained} gained; accuracy drop {drop.drop_points:+.1f} points")
    print(f"95 % confidence interval {drop.interval.low:+.1f} to {drop.interval.high:+.1f}: {drop.verdict}")

    old, new = edgeact.benchmark(before).latency, edgeact.benchmark(after).latency
    bounds = median_ratio(old.samples_ms, new.samples_ms)
    print(f"latency {old.p50_ms:.3f} ms -> {new.p50_ms:.3f} ms, ratio {bounds.low:.2f} to {bounds.high:.2f}")
    if bounds.low <= 1 <= bounds.high:
        print("the latencies are not significantly different")


if __name__ == "__main__":
    main(*sys.argv[1:])
