"""Typed notes on a model that was loaded, and on data that accuracy is measured on.

Programs compare types and fields; `edgeact.phrases.phrase` turns each of them into English.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeact.clip import ClipSpec
from edgeact.schema import StrictModel

__all__ = [
    "AccuracyNotMeasured",
    "AssumedClip",
    "DataNote",
    "ForeignNames",
    "MissingCounters",
    "ModelNote",
    "NewClassifier",
    "RandomWeights",
    "ReleaseByClasses",
    "UntestedClasses",
    "UntrainedLayers",
]


class ForeignNames(StrictModel):
    """The weights file has the tensor names of another package."""

    kind: Literal["foreign-names"] = "foreign-names"
    file: str
    naming: str


class ReleaseByClasses(StrictModel):
    """The file's release follows from its number of classes; mean and scale of the pixels are those of the release."""

    kind: Literal["release-by-classes"] = "release-by-classes"
    release: str


class UntrainedLayers(StrictModel):
    """Layers that the file does not have, which are new and untrained."""

    kind: Literal["untrained-layers"] = "untrained-layers"
    tensors: tuple[str, ...]


class MissingCounters(StrictModel):
    """Counters of batch norm that the file does not have, which are left at zero."""

    kind: Literal["missing-counters"] = "missing-counters"
    count: int
    name: str


class NewClassifier(StrictModel):
    """The classifier is not that of the file: it is trained anew."""

    kind: Literal["new-classifier"] = "new-classifier"
    layer: str
    classes: int


class AssumedClip(StrictModel):
    """The clip contract was not stated; `options` are those that would state it."""

    kind: Literal["assumed-clip"] = "assumed-clip"
    clip: ClipSpec
    options: tuple[str, ...]


class AccuracyNotMeasured(StrictModel):
    """The labels of the data are not those of the model."""

    kind: Literal["accuracy-not-measured"] = "accuracy-not-measured"
    error: str


class RandomWeights(StrictModel):
    """The weights are random: their accuracy means nothing, and is not measured."""

    kind: Literal["random-weights"] = "random-weights"


class UntestedClasses(StrictModel):
    """Classes without a video to measure accuracy on: one of them, and the number of others."""

    kind: Literal["untested-classes"] = "untested-classes"
    label: str
    others: int
    split: str


ModelNote = Annotated[
    ForeignNames | ReleaseByClasses | UntrainedLayers | MissingCounters | NewClassifier | AssumedClip,
    Field(discriminator="kind"),
]
DataNote = Annotated[AccuracyNotMeasured | RandomWeights | UntestedClasses, Field(discriminator="kind")]
