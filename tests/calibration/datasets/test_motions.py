from __future__ import annotations

import numpy as np
import pytest

from edgeact.calibration.datasets.figure import ANGLES, Floats, random_body
from edgeact.calibration.datasets.motions import LABELS, MOTIONS, Motion, angles_at, place_on_ground

BODIES = [random_body(np.random.default_rng(seed)) for seed in range(30)]


def _ends(label: str, seed: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
    motion = next(motion for motion in MOTIONS if motion.forward == label)
    placed = place_on_ground(motion, BODIES[seed], np.linspace(0.0, 1.0, 2), motion.spread)
    return {name: point[0] for name, point in placed.items()}, {name: point[1] for name, point in placed.items()}


def test_labels_are_twelve_different_classes_in_pairs() -> None:
    assert len(LABELS) == len(set(LABELS)) == 2 * len(MOTIONS) == 12


@pytest.mark.parametrize("motion", MOTIONS, ids=lambda motion: motion.forward)
def test_angles_at_reversed_phases_are_the_reversed_angles(motion: Motion) -> None:
    """The poses of the reverse class equal those of the forward class in reverse order."""
    phase = np.linspace(0.0, 1.0, 41)
    for body in BODIES:
        forward, reverse = angles_at(motion, body, phase), angles_at(motion, body, phase[::-1])
        assert forward.shape == (41, len(ANGLES))
        np.testing.assert_array_equal(forward, reverse[::-1])
        np.testing.assert_array_equal(np.sort(forward, axis=0), np.sort(reverse, axis=0))


@pytest.mark.parametrize("motion", MOTIONS, ids=lambda motion: motion.forward)
def test_place_on_ground_keeps_limb_lengths_and_ground_contact(motion: Motion) -> None:
    for body in BODIES:
        placed = place_on_ground(motion, body, np.linspace(0.0, 1.0, 60), motion.spread)
        lowest = np.max([placed["far_ankle"][:, 1], placed["near_ankle"][:, 1]], axis=0)
        np.testing.assert_allclose(lowest, -0.03, atol=1e-9)
        for side in ("far", "near"):
            shin = np.linalg.norm(placed[f"{side}_ankle"] - placed[f"{side}_knee"], axis=1)
            np.testing.assert_allclose(shin, body.leg, atol=1e-9)
        if motion.travel == 0.0:
            feet = (placed["far_ankle"] + placed["near_ankle"])[:, 0] / 2
            np.testing.assert_allclose(feet, 0.0, atol=1e-9)


@pytest.mark.parametrize("seed", range(len(BODIES)))
def test_motions_match_their_labels(seed: int) -> None:
    start, end = _ends("sit-down", seed)
    assert end["hip"][1] > start["hip"][1] + 0.1
    start, end = _ends("walk-right", seed)
    assert end["hip"][0] - start["hip"][0] == pytest.approx(0.75)
    start, end = _ends("raise-arms", seed)
    assert start["near_hand"][1] > start["near_shoulder"][1]
    assert end["near_hand"][1] < end["head"][1]
    start, end = _ends("bend-down", seed)
    assert end["near_hand"][1] > -0.45
    assert end["head"][1] > start["hip"][1] - 0.15
    start, end = _ends("push", seed)
    assert end["near_hand"][0] - end["near_shoulder"][0] > start["near_hand"][0] - start["near_shoulder"][0] + 0.1


def test_circle_counterclockwise_is_counterclockwise_in_the_picture() -> None:
    motion = MOTIONS[-1]
    assert motion.forward == "circle-counterclockwise"
    placed = place_on_ground(motion, BODIES[0], np.linspace(0.0, 1.0, 50), motion.spread)
    arm = (placed["near_hand"] - placed["near_shoulder"])[:, :]
    heading = np.unwrap(np.arctan2(-arm[:, 1], arm[:, 0]))  # y points down in the picture
    assert heading[-1] - heading[0] == pytest.approx(2.0 * np.pi)
    assert np.all(np.diff(heading) >= 0.0)
