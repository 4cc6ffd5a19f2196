"""Runtime of bundles on a device: `load` a bundle, then `predict` clips or `stream` a source."""

from edgeact.runtime.backends import BACKENDS, Backend, BackendSession, FakeBackend, OpenRequest, get_backend
from edgeact.runtime.choice import Choice, FallbackWarning, Rejected
from edgeact.runtime.loading import OpenOptions, load, open_artifact
from edgeact.runtime.prediction import Prediction, StageTimes, WindowResult, softmax
from edgeact.runtime.recognizer import Recognizer
from edgeact.runtime.session import InferenceResult, Session

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendSession",
    "Choice",
    "FakeBackend",
    "FallbackWarning",
    "InferenceResult",
    "OpenOptions",
    "OpenRequest",
    "Prediction",
    "Recognizer",
    "Rejected",
    "Session",
    "StageTimes",
    "WindowResult",
    "get_backend",
    "load",
    "open_artifact",
    "softmax",
]
