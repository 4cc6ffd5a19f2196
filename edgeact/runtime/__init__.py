"""Running a bundle on a device: `load` it, then `predict` clips or `stream` a source."""

from edgeact.runtime.backends import BACKENDS, Backend, BackendSession, FakeBackend, OpenRequest, get_backend
from edgeact.runtime.choice import Choice, FallbackWarning, Rejected
from edgeact.runtime.loading import OpenOptions, load, open_artifact
from edgeact.runtime.prediction import Prediction, StageTimes, WindowResult, softmax
from edgeact.runtime.recognizer import Recognizer
from edgeact.runtime.session import Run, Session

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendSession",
    "Choice",
    "FakeBackend",
    "FallbackWarning",
    "OpenOptions",
    "OpenRequest",
    "Prediction",
    "Recognizer",
    "Rejected",
    "Run",
    "Session",
    "StageTimes",
    "WindowResult",
    "get_backend",
    "load",
    "open_artifact",
    "softmax",
]
