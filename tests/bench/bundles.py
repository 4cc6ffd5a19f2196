"""Make a tiny bundle with a golden clip, which ONNX Runtime opens."""

from __future__ import annotations

from pathlib import Path

from edgeact.bundle import Bundle, BundleDraft, Golden, write_bundle
from edgeact.bundle.manifest import Role
from edgeact.video import frames_digest, preprocess, read_clips, write_video
from tests.runtime.making import CLIP, LABELS, colored, make_bundle


def make_golden_bundle(path: Path) -> Bundle:
    """Write the tiny bundle of the runtime tests with a golden clip of green frames, true label 'green'."""
    bundle = make_bundle(path)
    video = path.with_suffix(".mp4")
    write_video(video, colored(1), CLIP.fps)
    (frames,) = read_clips(video, CLIP, [0.0])
    channels = preprocess(frames, CLIP)[0].reshape(3, -1)
    red, green, blue = channels.mean(axis=1).tolist()
    golden = Golden(
        video="golden/clip.mp4",
        frames_sha256=frames_digest(frames),
        frames_shape=frames.shape,
        input_mean=(red, green, blue),
        input_std=(0.1, 0.1, 0.1),
        logits=(0.0, 0.0, 1.0, 0.0),
        label=LABELS[2],
    )
    facts = {name: getattr(bundle.manifest, name) for name in BundleDraft.model_fields}
    members: dict[str, tuple[Role, bytes | Path]] = {
        member.path: (member.role, bundle.read(member.path)) for member in bundle.manifest.members
    }
    members["golden/clip.mp4"] = ("golden-video", video.read_bytes())
    return write_bundle(path, BundleDraft(**{**facts, "golden": golden}), members)
