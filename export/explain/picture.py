"""The whole way: a model and a video in, a sheet (PNG) or a film (MP4) and all its numbers out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from edgeact.errors import StorageError, UnknownNameError, UsageError
from edgeact.export.explain.clip_view import Look, look
from edgeact.export.explain.film import film
from edgeact.export.explain.sheet import sheet
from edgeact.export.explain.source import open_model
from edgeact.export.models.loading import LoadedModel
from edgeact.progress import OnProgress
from edgeact.storage import write_bytes
from edgeact.video import Image, VideoInfo, probe_video, read_clips, window_starts, write_video

__all__ = ["Picture", "PictureRequest", "make_picture"]


@dataclass(frozen=True)
class PictureRequest:
    """What to draw."""

    source: str
    """A weights file with a model card, a registry model, or a bundle."""
    video: Path
    out: Path
    """.png: the clip at `start_s`; .mp4: all clips from there on, one after the other."""
    weights: Path | None = None
    start_s: float = 0.0
    label: str | None = None
    """Of which class Grad-CAM speaks; None: the one with the best score, of every clip."""


@dataclass(frozen=True)
class Picture:
    """What was drawn, in numbers; `notes` is what the user should know."""

    model: str
    weights_sha256: str
    video: str
    out: str
    clips: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def make_picture(request: PictureRequest, on_progress: OnProgress | None = None) -> Picture:
    """Look at the video and write the picture, whole or not at all; `on_progress(done, total)` counts clips.

    Raises UsageError for another suffix, an unknown label or a start behind the end, VideoError for a video that cannot
    be read, StorageError where the picture cannot be written, and whatever `open_model` says of the model.
    """
    if request.out.suffix.lower() not in (".png", ".mp4"):
        raise UsageError(f"expected a picture .png or .mp4, got '{request.out.name}'")
    loaded = open_model(request.source, request.weights)
    if request.label is not None and request.label not in loaded.labels:
        raise UnknownNameError("label", request.label, loaded.labels)
    info = probe_video(request.video)
    clips: list[dict[str, Any]] = []
    looks = _recorded(_looks(request, loaded, info, on_progress), clips)
    subtitle = f"{request.video.name}, {loaded.clip.clip_frames} frames at {loaded.clip.fps:g} frames/s"
    if request.out.suffix.lower() == ".png":
        [only] = looks
        write_bytes(request.out, _png(sheet(only, loaded.name, subtitle)))
    else:
        frames = itertools.chain.from_iterable(film(one, loaded.name, subtitle) for one in looks)
        write_video(request.out, frames, max(loaded.clip.fps, 1.0))
    notes = tuple(_notes(request, loaded, info, clips))
    return Picture(loaded.name, loaded.weights_sha256, str(request.video), str(request.out), tuple(clips), notes)


def _looks(
    request: PictureRequest, loaded: LoadedModel, info: VideoInfo, on_progress: OnProgress | None
) -> Iterator[Look]:
    if not 0 <= request.start_s < info.duration_s:
        raise UsageError(f"expected a start within the video's {info.duration_s:.2f} s, got {request.start_s} s")
    starts = [request.start_s + hop_s for hop_s in window_starts(info.duration_s - request.start_s, loaded.clip)]
    starts = starts[:1] if request.out.suffix.lower() == ".png" else starts
    clips = zip(starts, read_clips(request.video, loaded.clip, starts), strict=True)
    for done, (start_s, raw) in enumerate(clips, start=1):
        yield look(loaded, raw, start_s, request.label)
        if on_progress:
            on_progress(done, len(starts))


def _recorded(looks: Iterator[Look], clips: list[dict[str, Any]]) -> Iterator[Look]:
    for one in looks:
        clips.append(one.document())
        yield one


def _notes(request: PictureRequest, loaded: LoadedModel, info: VideoInfo, clips: list[dict[str, Any]]) -> Iterator[str]:
    yield from loaded.notes
    if info.duration_s - request.start_s < loaded.clip.duration_s - 0.5 / loaded.clip.fps:
        yield (
            f"the video ends {info.duration_s - request.start_s:.2f} s after the start, a clip takes "
            f"{loaded.clip.duration_s:.2f} s: the last frame stands for what is missing"
        )
    if not clips[0]["modules"]:
        yield f"'{loaded.name}' has no attention module; the picture shows Grad-CAM alone"


def _png(image: Image) -> bytes:
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise StorageError(f"OpenCV cannot encode a PNG of {image.shape[1]}x{image.shape[0]} pixels")
    return bytes(data)
