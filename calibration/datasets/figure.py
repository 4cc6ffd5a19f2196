"""Render an articulated figure: joint angles in, tapered limbs out.

Angles are absolute, in radians: 0 hangs straight down, positive swings towards +x (the way the figure faces before it
is mirrored). Torso and head are measured likewise from straight up. Lengths are in body heights, y points down.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = [
    "ANGLES",
    "Body",
    "Color",
    "Floats",
    "Image",
    "Limbs",
    "draw",
    "joints",
    "limbs",
    "outlines",
    "random_body",
    "with_seat",
]

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

ANGLES = (
    "lean", "head",
    "far_arm", "far_forearm", "near_arm", "near_forearm",
    "far_thigh", "far_shin", "near_thigh", "near_shin",
)  # fmt: skip

_SUBPIXEL_BITS = 4
_ARC = np.linspace(0.5 * np.pi, 1.5 * np.pi, 7)  # half a circle around the start of a limb


@dataclass(frozen=True)
class Body:
    """The appearance of a person; lengths and radii in body heights, colors RGB."""

    torso: float
    arm: float
    leg: float
    head_radius: float
    girth: float
    posture: float  # radians the torso leans at all times
    amplitude: float  # factor on every movement
    ease: float  # 0 moves evenly, 1 starts and stops softly
    sleeve: bool  # long sleeves hide the forearm's skin
    skin: Color
    hair: Color
    shirt: Color
    trousers: Color
    shoes: Color


@dataclass(frozen=True)
class Limbs:
    """Capsules in painting order: `start` and `end` (T, L, 2), their radii (L,), and a color per capsule."""

    start: Floats
    end: Floats
    start_radius: Floats
    end_radius: Floats
    colors: tuple[Color, ...]


def random_body(rng: np.random.Generator) -> Body:
    """Draw a person; the same generator state gives the same person."""
    skin_tone = rng.uniform(0.0, 1.0)
    skin = (int(90 + 150 * skin_tone), int(58 + 132 * skin_tone), int(38 + 122 * skin_tone))
    return Body(
        torso=rng.uniform(0.27, 0.32),
        arm=rng.uniform(0.155, 0.185),
        leg=rng.uniform(0.225, 0.255),
        head_radius=rng.uniform(0.062, 0.082),
        girth=rng.uniform(0.8, 1.25),
        posture=rng.normal(0.0, 0.04),
        amplitude=rng.uniform(0.85, 1.1),
        ease=rng.uniform(0.2, 1.0),
        sleeve=bool(rng.random() < 0.4),
        skin=skin,
        hair=_garment(rng, saturation=(60, 160), value=(20, 130)),
        shirt=_garment(rng, saturation=(120, 255), value=(110, 255)),
        trousers=_garment(rng, saturation=(30, 200), value=(25, 150)),
        shoes=_garment(rng, saturation=(0, 120), value=(15, 90)),
    )


def joints(body: Body, angles: Floats, spread: float) -> dict[str, Floats]:
    """Compute joint positions (T, 2) from angles (T, len(ANGLES)); the origin is the center of the hip.

    `spread` opens shoulders and hips sideways: 0 is a profile, 1 a frontal view.
    """
    angle = dict(zip(ANGLES, angles.T, strict=True))
    hip = np.zeros((len(angles), 2))
    neck = hip - body.torso * _down(-angle["lean"])
    placed = {"hip": hip, "neck": neck, "head": neck - (body.head_radius + 0.035) * _down(-angle["head"])}
    across = np.stack([np.cos(angle["lean"]), np.sin(angle["lean"])], axis=1)
    for side, sign in (("far", -1.0), ("near", 1.0)):
        shoulder = 0.94 * neck + sign * spread * 0.1 * body.girth**0.5 * across
        elbow = shoulder + body.arm * _down(angle[f"{side}_arm"])
        hand = elbow + 0.95 * body.arm * _down(angle[f"{side}_forearm"])
        socket = hip + sign * (0.012 + 0.052 * spread) * np.array([1.0, 0.0])
        knee = socket + body.leg * _down(angle[f"{side}_thigh"])
        ankle = knee + body.leg * _down(angle[f"{side}_shin"])
        toe = ankle + np.array([0.065 * (1.0 - spread) + sign * 0.03 * spread, 0.012])
        names = ("shoulder", "elbow", "hand", "socket", "knee", "ankle", "toe")
        points = (shoulder, elbow, hand, socket, knee, ankle, toe)
        placed.update({f"{side}_{name}": point for name, point in zip(names, points, strict=True)})
    return placed


def limbs(body: Body, placed: dict[str, Floats], spread: float) -> Limbs:
    """Return the limbs around the joints; those far from the camera come first and are darker."""
    wide = body.girth
    chest = (0.055 + 0.03 * spread) * wide
    crown = placed["head"] + 0.45 * (placed["head"] - placed["neck"]) * (body.head_radius / 0.1)
    middle: list[tuple[Floats, Floats, float, float, Color]] = [
        (placed["neck"], placed["head"], 0.028 * wide, 0.028 * wide, body.skin),
        (placed["hip"], 0.3 * placed["hip"] + 0.7 * placed["neck"], 0.056 * wide, chest, body.shirt),
        (placed["hip"], 0.06 * placed["neck"], 0.06 * wide, 0.058 * wide, body.trousers),
        (crown, crown, 0.95 * body.head_radius, 0.95 * body.head_radius, body.hair),
        (placed["head"], placed["head"], body.head_radius, 0.94 * body.head_radius, body.skin),
    ]
    near = _leg(body, placed, "near") + _arm(body, placed, "near")
    far = [
        (start, end, r0, r1, _shade(color, 0.72))
        for start, end, r0, r1, color in _leg(body, placed, "far") + _arm(body, placed, "far")
    ]
    parts = [*far, *middle, *near]
    return Limbs(
        start=np.stack([part[0] for part in parts], axis=1),
        end=np.stack([part[1] for part in parts], axis=1),
        start_radius=np.array([part[2] for part in parts]),
        end_radius=np.array([part[3] for part in parts]),
        colors=tuple(part[4] for part in parts),
    )


def with_seat(figure: Limbs, hip: Floats, body: Body) -> Limbs:
    """Add a stool behind the figure; `hip` (2,) is the position of the seated hip."""
    top = hip + np.array([-0.02, 0.075 * body.girth])
    feet = np.array([top[0], 0.0])
    half = np.array([0.11, 0.0])
    inset = np.array([0.07, 0.0])
    starts, ends = np.stack([top - inset, top + inset, top - half]), np.stack([feet - half, feet + half, top + half])
    count = len(figure.start)
    radius = np.array([0.012, 0.012, 0.02])
    return Limbs(
        start=np.concatenate([np.repeat(starts[None], count, axis=0), figure.start], axis=1),
        end=np.concatenate([np.repeat(ends[None], count, axis=0), figure.end], axis=1),
        start_radius=np.concatenate([radius, figure.start_radius]),
        end_radius=np.concatenate([radius, figure.end_radius]),
        colors=(_shade(body.hair, 0.6), _shade(body.hair, 0.6), body.hair, *figure.colors),
    )


def draw(frame: Image, outlines: npt.NDArray[np.int32], colors: tuple[Color, ...]) -> None:
    """Draw the capsules of a frame onto `frame`; outlines (L, P, 2) in fixed point, see `outlines`."""
    for outline, color in zip(outlines, colors, strict=True):
        cv2.fillConvexPoly(frame, outline, color, cv2.LINE_AA, _SUBPIXEL_BITS)


def outlines(figure: Limbs, scale_px: float, origin_px: Floats, mirror: bool) -> npt.NDArray[np.int32]:
    """Return polygons (T, L, 14, 2) around the capsules, fixed-point pixels; `origin_px` (T, 2) is (0, 0)."""
    flip = np.array([-1.0 if mirror else 1.0, 1.0])
    start = figure.start * flip * scale_px + origin_px[:, None, :]
    end = figure.end * flip * scale_px + origin_px[:, None, :]
    axis = end - start
    heading = np.arctan2(axis[..., 1], axis[..., 0])[..., None]
    tail = np.stack([np.cos(heading + _ARC), np.sin(heading + _ARC)], axis=-1)
    around_start = start[..., None, :] + figure.start_radius[None, :, None, None] * scale_px * tail
    around_end = end[..., None, :] - figure.end_radius[None, :, None, None] * scale_px * tail
    points = np.concatenate([around_start, around_end], axis=2)
    fixed: npt.NDArray[np.int32] = np.rint(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    return fixed


def _arm(body: Body, placed: dict[str, Floats], side: str) -> list[tuple[Floats, Floats, float, float, Color]]:
    wide = body.girth
    shoulder, elbow, hand = (placed[f"{side}_{name}"] for name in ("shoulder", "elbow", "hand"))
    return [
        (elbow, hand, 0.029 * wide, 0.023 * wide, body.shirt if body.sleeve else body.skin),
        (hand, hand, 0.031, 0.03, body.skin),
        (shoulder, elbow, 0.035 * wide, 0.028 * wide, _shade(body.shirt, 0.88)),
    ]


def _leg(body: Body, placed: dict[str, Floats], side: str) -> list[tuple[Floats, Floats, float, float, Color]]:
    wide = body.girth
    socket, knee, ankle, toe = (placed[f"{side}_{name}"] for name in ("socket", "knee", "ankle", "toe"))
    return [
        (ankle, toe, 0.024, 0.02, body.shoes),
        (knee, ankle, 0.034 * wide, 0.024 * wide, body.trousers),
        (socket, knee, 0.046 * wide, 0.035 * wide, body.trousers),
    ]


def _down(angle: Floats) -> Floats:
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def _shade(color: Color, factor: float) -> Color:
    red, green, blue = (int(channel * factor) for channel in color)
    return red, green, blue


def _garment(rng: np.random.Generator, saturation: tuple[int, int], value: tuple[int, int]) -> Color:
    pixel = np.array([[[rng.integers(180), rng.integers(*saturation), rng.integers(*value)]]], dtype=np.uint8)
    red, green, blue = (int(channel) for channel in cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0])
    return red, green, blue
