"""What all trials of a search have in common, and what a process loads once for all that it runs."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from edgeact.calibration.accuracy import Scores, collect_scores
from edgeact.clip import ClipSpec
from edgeact.devices import DeviceProfile, is_at_hand, load_profile
from edgeact.errors import DataError, DatasetError, EdgeactError, UsageError, WeightsError
from edgeact.export.build.data import DataPlan, ExportData, gather
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from edgeact.export.models.spec import Pixels, resized_clip
from edgeact.export.search.space import ClipSize
from edgeact.progress import OnStep, titled

__all__ = ["Loaded", "SearchJob", "loaded", "reference_right", "right_of", "sized", "why_refused"]

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SearchJob:
    """The same for every trial, and for every process and machine that runs one; it travels to them."""

    target: str
    source: str | None = None
    """Registry name or 'package.module:factory'; None: the shipped model."""
    load: LoadRequest = field(default_factory=LoadRequest)
    data: DataPlan = field(default_factory=lambda: DataPlan(None))
    finetune_epochs: int = 1
    """Of every pruned model before it is measured; 0: none."""
    threads: int = 1
    """Of training and of every session."""
    weights_sha256: str = ""
    """What the first process found; another machine that finds something else refuses. Empty: it is the first."""
    data_digest: str = ""
    """The same of the videos accuracy is counted on."""


@dataclass(frozen=True)
class Loaded:
    """The unpruned model at one clip size, and its data at that clip."""

    model: LoadedModel
    data: ExportData
    profile: DeviceProfile

    @property
    def is_timed(self) -> bool:
        """Whether latency is measured here, or can only be estimated."""
        return self.profile.family == "cpu" and is_at_hand(self.profile)

    @property
    def data_digest(self) -> str:
        """Of the videos accuracy is counted on."""
        return self.data.source.digest if self.data.source else ""


def loaded(job: SearchJob, size: ClipSize | None = None) -> Loaded:
    """The model and its data; the same object for the same arguments, so it must not be changed.

    None is the model's own clip. Raises what loading raises, UsageError for random weights, DatasetError where the
    labels are not the model's, WeightsError or DataError where this machine has other weights or videos than the job.
    """
    found = _loaded(replace(job, weights_sha256="", data_digest=""), size)
    if job.weights_sha256 and found.model.weights_sha256 != job.weights_sha256:
        raise WeightsError(
            f"this machine has other weights of '{found.model.name}' than the search: expected SHA-256 "
            f"{job.weights_sha256[:16]}, got {found.model.weights_sha256[:16]}; give all machines the same file"
        )
    if job.data_digest and found.data_digest != job.data_digest:
        raise DataError(
            f"this machine has other videos of '{found.data.provenance.dataset}' than the search: expected digest "
            f"{job.data_digest[:16]}, got {found.data_digest[:16]}; give all machines the same data"
        )
    return found


@functools.lru_cache(maxsize=4)
def _loaded(job: SearchJob, size: ClipSize | None) -> Loaded:
    torch.set_num_threads(job.threads)
    own = load_model(job.source, job.load)
    if not own.trained:
        raise UsageError(f"the weights of '{own.name}' are random: they have no accuracy to lose; give --weights FILE")
    clip = sized(own.clip, size) if size else own.clip
    model = own if clip == own.clip else load_model(job.source, _at(job.load, clip))
    data = gather(job.data, model.labels, model.clip)
    if data.source is None:
        raise DatasetError(f"a search needs the accuracy of every trial: {data.note}")
    return Loaded(model, data, load_profile(job.target))


def _at(request: LoadRequest, clip: ClipSpec) -> LoadRequest:
    return replace(request, clip=clip, clip_frames=None, size=None, fps=None, resize=None, pixels=Pixels())


def why_refused(job: SearchJob, size: ClipSize) -> str:
    """Why the model does not run with clips of that size; empty where it does."""
    try:
        load_model(job.source, _at(job.load, sized(loaded(job).model.clip, size)))
    except EdgeactError as error:
        return str(error)
    return ""


def sized(clip: ClipSpec, size: ClipSize) -> ClipSpec:
    """`clip` with other frames over the same time, so that its windows stay the same, and another crop."""
    fps = clip.fps * size.clip_frames / clip.clip_frames
    pixels = None if clip.crop[0] == size.size else size.size
    return resized_clip(clip, clip_frames=size.clip_frames, size=pixels, fps=fps)


def reference_right(job: SearchJob, on_step: OnStep | None = None) -> tuple[bool, ...]:
    """Whether PyTorch's FP32 of the unpruned model, at its own clip, recognises each of the videos."""
    found = loaded(job)
    module = found.model.module

    def run(clip: Array) -> Array:
        with torch.no_grad():
            logits: Array = module(torch.from_numpy(clip)).float().numpy()
        return logits

    told = titled(on_step, "accuracy of the unpruned model")
    return right_of(collect_scores({"pytorch": run}, found.data.evaluation, found.model.clip, told)["pytorch"])


def right_of(scores: Scores) -> tuple[bool, ...]:
    """By video: whether the mean over its clips is highest for its class."""
    probabilities, labels = scores.videos()
    return tuple(bool(right) for right in probabilities.argmax(axis=1) == labels)
