"""Video: frame sources, sampling of clips by time stamp, and the preprocessing that all of edgeact shares."""

from edgeact.video.buffer import ClipBuffer
from edgeact.video.frame import Frame, Image, frames_digest
from edgeact.video.info import VideoInfo, probe_video
from edgeact.video.live import LiveOptions, LiveSource
from edgeact.video.preprocess import Preprocessor, center_crop, preprocess, resize_frame
from edgeact.video.recorded import RecordedSource
from edgeact.video.sampling import Window, read_clips, window_starts
from edgeact.video.source import FrameSource, open_source
from edgeact.video.writer import write_video

__all__ = [
    "ClipBuffer",
    "Frame",
    "FrameSource",
    "Image",
    "LiveOptions",
    "LiveSource",
    "Preprocessor",
    "RecordedSource",
    "VideoInfo",
    "Window",
    "center_crop",
    "frames_digest",
    "open_source",
    "preprocess",
    "probe_video",
    "read_clips",
    "resize_frame",
    "window_starts",
    "write_video",
]
