"""From a model and a video to a sheet (PNG) or a film (MP4), and the numbers behind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeact.errors import UnknownNameError, UsageError
from edgeact.export.explain.clip_view import ClipView, view_clip
from edgeact.export.explain.document import ClipDocument
from edgeact.export.explain.drawing import drawing
from edgeact.export.explain.film import film
from edgeact.export.explain.sheet import sheet
from edgeact.export.explain.source import open_model
from edgeact.export.models.loading import LoadedModel
from edgeact.phrases import phrase
from edgeact.progress import OnProgress
from edgeact.storage import write_bytes
from edgeact.video import VideoInfo, probe_video, read_clips, window_starts, write_video

__all__ = ["Picture", "PictureRequest", "make_picture"]


@dataclass(frozen=True)
class PictureRequest:
    """What to draw."""

    source: str
    """A weights file with a model card, a registry model, or a bundle."""
    video: Path
    out: Path
    """.png: the clip at `start_s`; .mp4: all clips from `start_s` on, one after the other."""
    weights: Path | None = None
    start_s: float = 0.0
    label: str | None = None
    """The class that Grad-CAM explains; None: the best of every clip."""


@dataclass(frozen=True)
class Picture:
    """What was drawn, in numbers."""

    model: str
    weights_sha256: str
    video: str
    out: str
    clips: tuple[ClipDocument, ...]
    notes: tuple[str, ...]
    """For the user."""


def make_picture(request: PictureRequest, on_progress: OnProgress | None = None) -> Picture:
    """Run the clips of a video and write the picture, whole or not at all; `on_progress(done, total)` counts clips.

    Raises UsageError for another suffix or a start beyond the end, UnknownNameError for an unknown label, VideoError
    if the video cannot be read, StorageError if the picture cannot be written, and the errors of `open_model`.
    """
    if request.out.suffix.lower() not in (".png", ".mp4"):
        raise UsageError(f"expected a picture .png or .mp4, got '{request.out.name}'")
    loaded = open_model(request.source, request.weights)
    if request.label is not None and request.label not in loaded.labels:
        raise UnknownNameError("label", request.label, loaded.labels)
    info = probe_video(request.video)
    clips: list[ClipDocument] = []
    with drawing():
        _write(request, loaded, _recorded(_views(request, loaded, info, on_progress), clips))
    return Picture(
        model=loaded.name,
        weights_sha256=loaded.weights_sha256,
        video=str(request.video),
        out=str(request.out),
        clips=tuple(clips),
        notes=tuple(_notes(request, loaded, info, clips)),
    )


def _write(request: PictureRequest, loaded: LoadedModel, views: Iterator[ClipView]) -> None:
    subtitle = f"{request.video.name}, {loaded.clip.clip_frames} frames at {loaded.clip.fps:g} frames/s"
    if request.out.suffix.lower() == ".png":
        [view] = views
        write_bytes(request.out, sheet(view, loaded.name, subtitle).png())
    else:
        frames = itertools.chain.from_iterable(film(view, loaded.name, subtitle) for view in views)
        write_video(request.out, frames, max(loaded.clip.fps, 1.0))


def _views(
    request: PictureRequest, loaded: LoadedModel, info: VideoInfo, on_progress: OnProgress | None
) -> Iterator[ClipView]:
    if not 0 <= request.start_s < info.duration_s:
        raise UsageError(f"expected a start within the video's {info.duration_s:.2f} s, got {request.start_s} s")
    starts = [request.start_s + hop_s for hop_s in window_starts(info.duration_s - request.start_s, loaded.clip)]
    starts = starts[:1] if request.out.suffix.lower() == ".png" else starts
    clips = zip(starts, read_clips(request.video, loaded.clip, starts), strict=True)
    for done, (start_s, raw) in enumerate(clips, start=1):
        yield view_clip(loaded, raw, start_s, request.label)
        if on_progress:
            on_progress(done, len(starts))


def _recorded(views: Iterator[ClipView], clips: list[ClipDocument]) -> Iterator[ClipView]:
    for view in views:
        clips.append(view.document())
        yield view


def _notes(request: PictureRequest, loaded: LoadedModel, info: VideoInfo, clips: list[ClipDocument]) -> Iterator[str]:
    yield from map(phrase, loaded.notes)
    if info.duration_s - request.start_s < loaded.clip.duration_s - 0.5 / loaded.clip.fps:
        yield (
            f"the video ends {info.duration_s - request.start_s:.2f} s after the start, a clip takes "
            f"{loaded.clip.duration_s:.2f} s: the last frame is repeated"
        )
    if not clips[0].modules:
        yield f"'{loaded.name}' has no attention module; the picture shows Grad-CAM alone"
