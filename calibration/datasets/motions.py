"""Motions in six pairs of classes; the classes of a pair are exact time reversals of each other.

A motion maps a phase in [0, 1] to joint angles. The forward class runs it from 0 to 1, the reverse class from 1 to 0,
so that a pose, and with it a single frame, is equally likely in both classes of a pair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeact.calibration.datasets.figure import ANGLES, Body, Floats, joints

__all__ = ["LABELS", "MOTIONS", "Motion", "angles_at", "place_on_ground"]


@dataclass(frozen=True)
class Motion:
    """A pair of classes.

    `angles` maps phases (T,) to degrees (T, len(ANGLES)). If `mirror_reverses`, the mirror image of the forward class
    looks like the reverse class (walking left is walking right in a mirror), so that a mirrored clip is reversed to
    keep its label. `travel` is the distance covered, `reach` the width needed, both in body heights.
    """

    forward: str
    reverse: str
    angles: Callable[[Floats], Floats]
    spread: float
    reach: float
    mirror_reverses: bool = False
    travel: float = 0.0
    has_seat: bool = False


def angles_at(motion: Motion, body: Body, phase: Floats) -> Floats:
    """Return joint angles (T, len(ANGLES)), radians, at `phase` (T,), with the posture and amplitude of `body`."""
    soft = phase**3 * (10.0 - 15.0 * phase + 6.0 * phase**2)
    eased = (1.0 - body.ease) * phase + body.ease * soft
    angles = np.radians(motion.angles(eased))
    if motion.travel == 0.0 and not motion.mirror_reverses:
        rest = np.radians(motion.angles(np.zeros(1)))
        angles = rest + body.amplitude * (angles - rest)
    angles[:, :2] += body.posture
    return angles


def place_on_ground(motion: Motion, body: Body, phase: Floats, spread: float) -> dict[str, Floats]:
    """Return joint positions (T, 2) in body heights, with the lower foot on y = 0 and the feet fixed in x.

    A traveling motion is centered on x = 0; the feet of any other motion stand there.
    """
    placed = joints(body, angles_at(motion, body, phase), spread)
    feet = np.stack([placed["far_ankle"], placed["near_ankle"]])
    shift = -np.stack([feet[..., 0].mean(axis=0), feet[..., 1].max(axis=0) + 0.03], axis=1)
    if motion.travel:
        shift[:, 0] = motion.travel * (phase - 0.5)
    return {name: point + shift for name, point in placed.items()}


def _keyframes(*frames: tuple[float, dict[str, float]]) -> Callable[[Floats], Floats]:
    """Return angles in degrees, linear between key frames (the phase itself is eased); omitted angles are 0."""
    times = np.array([time for time, _ in frames])
    values = np.array([[pose.get(name, 0.0) for name in ANGLES] for _, pose in frames])

    def at(phase: Floats) -> Floats:
        return np.stack([np.interp(phase, times, column) for column in values.T], axis=1)

    return at


def _walk(phase: Floats) -> Floats:
    """Return the angles of one and a half strides; the knee bends while its leg swings."""
    stride = 2.0 * np.pi * 1.5 * phase
    angle = dict.fromkeys(ANGLES, np.zeros_like(phase))
    angle["lean"] = np.full_like(phase, 3.0)
    for side, swing in (("near", stride), ("far", stride + np.pi)):
        angle[f"{side}_thigh"] = 5.0 + 27.0 * np.sin(swing)
        angle[f"{side}_shin"] = angle[f"{side}_thigh"] - 6.0 - 42.0 * np.clip(np.cos(swing), 0.0, 1.0) ** 1.5
        angle[f"{side}_arm"] = -26.0 * np.sin(swing)
        angle[f"{side}_forearm"] = angle[f"{side}_arm"] + 22.0
    return np.stack([angle[name] for name in ANGLES], axis=1)


def _circle(phase: Floats) -> Floats:
    """Return the angles of one arm that swings through a full turn while the other hangs."""
    angle = dict.fromkeys(ANGLES, np.zeros_like(phase))
    turn = 360.0 * phase
    angle["near_arm"], angle["near_forearm"] = 8.0 + turn, 14.0 + turn
    angle["far_arm"], angle["far_forearm"] = np.full_like(phase, -10.0), np.full_like(phase, -6.0)
    angle["near_thigh"] = angle["near_shin"] = np.full_like(phase, 6.0)
    angle["far_thigh"] = angle["far_shin"] = np.full_like(phase, -6.0)
    return np.stack([angle[name] for name in ANGLES], axis=1)


_STANCE = {"near_thigh": 5.0, "near_shin": 5.0, "far_thigh": -5.0, "far_shin": -5.0}
_HANGING = {"near_arm": 4.0, "near_forearm": 10.0, "far_arm": 0.0, "far_forearm": 8.0}
_STANDING = {"near_thigh": 4.0, "near_shin": -2.0, "far_thigh": 1.0, "far_shin": -4.0, **_HANGING}

_SIT = _keyframes(
    (0.0, _STANDING),
    (0.6, {"lean": 34.0, "head": 22.0, "near_thigh": 56.0, "near_shin": -14.0, "far_thigh": 52.0, "far_shin": -16.0,
           "near_arm": 22.0, "near_forearm": 46.0, "far_arm": 18.0, "far_forearm": 42.0}),
    (1.0, {"lean": 4.0, "head": 4.0, "near_thigh": 88.0, "near_shin": 2.0, "far_thigh": 85.0, "far_shin": -4.0,
           "near_arm": 26.0, "near_forearm": 66.0, "far_arm": 22.0, "far_forearm": 62.0}),
)  # fmt: skip
_RAISE = _keyframes(
    (0.0, {"near_arm": 10.0, "near_forearm": 8.0, "far_arm": -10.0, "far_forearm": -8.0, **_STANCE}),
    (0.5, {"near_arm": 88.0, "near_forearm": 96.0, "far_arm": -88.0, "far_forearm": -96.0, **_STANCE}),
    (1.0, {"near_arm": 158.0, "near_forearm": 176.0, "far_arm": -158.0, "far_forearm": -176.0, **_STANCE}),
)
_BEND = _keyframes(
    (0.0, _STANDING),
    (1.0, {"lean": 104.0, "head": 118.0, "near_thigh": 14.0, "near_shin": -22.0, "far_thigh": 8.0, "far_shin": -24.0,
           "near_arm": 14.0, "near_forearm": 10.0, "far_arm": 24.0, "far_forearm": 18.0}),
)  # fmt: skip
_PUSH = _keyframes(
    (0.0, {"lean": -8.0, "near_arm": -42.0, "near_forearm": 112.0, "far_arm": -36.0, "far_forearm": 118.0,
           "near_thigh": 16.0, "near_shin": 4.0, "far_thigh": -10.0, "far_shin": -20.0}),
    (1.0, {"lean": 20.0, "head": 8.0, "near_arm": 86.0, "near_forearm": 92.0, "far_arm": 92.0, "far_forearm": 98.0,
           "near_thigh": 42.0, "near_shin": -6.0, "far_thigh": -30.0, "far_shin": -36.0}),
)  # fmt: skip

MOTIONS = (
    Motion("sit-down", "stand-up", _SIT, spread=0.1, reach=0.75, has_seat=True),
    Motion("walk-right", "walk-left", _walk, spread=0.1, reach=1.3, mirror_reverses=True, travel=0.75),
    Motion("raise-arms", "lower-arms", _RAISE, spread=1.0, reach=0.9),
    Motion("bend-down", "rise-up", _BEND, spread=0.15, reach=1.1),
    Motion("push", "pull", _PUSH, spread=0.15, reach=0.95),
    Motion("circle-counterclockwise", "circle-clockwise", _circle, spread=1.0, reach=0.9, mirror_reverses=True),
)

LABELS = tuple(name for motion in MOTIONS for name in (motion.forward, motion.reverse))
