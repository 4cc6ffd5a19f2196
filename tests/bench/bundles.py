"""Make tiny bundles with a golden clip, which ONNX Runtime opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeact.bundle import Bundle, BundleDraft, Golden, write_bundle
from edgeact.bundle.manifest import Role
from edgeact.runtime.golden import encode_pixels
from edgeact.video import center_crop, frames_digest, preprocess, read_clips, resize_frame, write_video
from tests.runtime.making import CLIP, LABELS, ArtifactSpec, colored, make_bundle, reference, tiny_onnx


def make_golden_bundle(path: Path, specs: Sequence[ArtifactSpec] = (ArtifactSpec("fp32", ("onnxruntime",)),)) -> Bundle:
    """Write a bundle of the runtime tests with a golden clip of green frames, true label 'green', as before 1.3."""
    return with_golden(make_bundle(path, specs), {})


def make_checked_bundle(
    path: Path, specs: Sequence[ArtifactSpec] = (ArtifactSpec("fp32", ("onnxruntime",)),), **changes: object
) -> Bundle:
    """Write the bundle with the figures of every stage; `changes` replaces some of the golden clip's."""
    return with_golden(make_bundle(path, specs), changes, has_figures=True)


def with_golden(bundle: Bundle, changes: Mapping[str, object], *, has_figures: bool = False) -> Bundle:
    """Write the bundle again with a golden clip; with the figures of every stage if `has_figures`."""
    video = bundle.path.with_suffix(".mp4")
    write_video(video, colored(1), CLIP.fps)
    (frames,) = read_clips(video, CLIP, [0.0])
    clip = preprocess(frames, CLIP)
    channels = clip[0].reshape(3, -1).astype(np.float64)
    logits = tuple(reference(tiny_onnx(), clip)[0].tolist())
    golden: dict[str, object] = {
        "video": "golden/clip.mp4",
        "frames_sha256": frames_digest(frames),
        "frames_shape": frames.shape,
        "input_mean": tuple(channels.mean(axis=1).tolist()),
        "input_std": tuple(channels.std(axis=1).tolist()),
        "logits": logits,
        "label": LABELS[2],
    }
    members: dict[str, tuple[Role, bytes | Path]] = {
        member.path: (member.role, bundle.read(member.path)) for member in bundle.manifest.members
    }
    members["golden/clip.mp4"] = ("golden-video", video.read_bytes())
    artifacts = bundle.manifest.artifacts
    if has_figures:
        pixels = np.stack([center_crop(resize_frame(frame, CLIP), CLIP) for frame in frames])
        members["golden/pixels.bin"] = ("other", encode_pixels(pixels))
        golden |= {"pixels": "golden/pixels.bin", "frames_mean": tuple(map(tuple, frames.mean(axis=(1, 2)).tolist()))}
        artifacts = tuple(each.model_copy(update={"golden_logits": logits}) for each in artifacts)
    facts = {name: getattr(bundle.manifest, name) for name in BundleDraft.model_fields}
    facts |= {"golden": Golden.model_validate({**golden, **changes}), "artifacts": artifacts}
    return write_bundle(bundle.path, BundleDraft(**facts), members)
