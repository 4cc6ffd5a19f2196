"""Video: frame sources, frames chosen by time stamp, the one preprocessing."""

from edgeact.video.frame import Frame, Image, frames_digest
from edgeact.video.info import VideoInfo, probe_video
from edgeact.video.preprocess import preprocess, resize_frame
from edgeact.video.sampling import Window, read_clips, window_starts
from edgeact.video.writer import write_video

__all__ = [
    "Frame",
    "Image",
    "VideoInfo",
    "Window",
    "frames_digest",
    "preprocess",
    "probe_video",
    "read_clips",
    "resize_frame",
    "window_starts",
    "write_video",
]
