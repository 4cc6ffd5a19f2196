"""Runtime of bundles on a device: `load` a bundle, then `predict` clips or `stream` a source."""

from edgeact.runtime.backends import BACKENDS, Backend, BackendSession, FakeBackend, OpenRequest, get_backend
from edgeact.runtime.choice import Choice, FallbackWarning, Rejected
from edgeact.runtime.loading import LoadOptions, OpenOptions, load, open_artifact
from edgeact.runtime.prediction import Prediction, StageTimes, WindowResult, softmax
from edgeact.runtime.recognizer import Recognizer
from edgeact.runtime.self_check import Check
from edgeact.runtime.session import InferenceResult, Session
from edgeact.runtime.verification import Verification, VerifiedArtifact, verify

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendSession",
    "Check",
    "Choice",
    "FakeBackend",
    "FallbackWarning",
    "InferenceResult",
    "LoadOptions",
    "OpenOptions",
    "OpenRequest",
    "Prediction",
    "Recognizer",
    "Rejected",
    "Session",
    "StageTimes",
    "Verification",
    "VerifiedArtifact",
    "WindowResult",
    "get_backend",
    "load",
    "open_artifact",
    "softmax",
    "verify",
]
