"""Sentences of notes on a loaded model and on the data."""

from __future__ import annotations

from edgeact import loading_notes as n
from edgeact.phrases._phrase import phrase

__all__: list[str] = []


@phrase.register
def _(note: n.ForeignNames) -> str:
    return f"{note.file} has the names of {note.naming}"


@phrase.register
def _(note: n.ReleaseByClasses) -> str:
    return f"by its number of classes of the {note.release} release, whose pixels' mean and scale are taken"


@phrase.register
def _(note: n.UntrainedLayers) -> str:
    return f"not in the file, new, untrained: {', '.join(note.tensors)}"


@phrase.register
def _(note: n.MissingCounters) -> str:
    return f"not in the file, left at zero: {note.count} counters of batch norm ({note.name})"


@phrase.register
def _(note: n.NewClassifier) -> str:
    return f"not from the file: {note.layer}, trained anew for {note.classes} classes"


@phrase.register
def _(note: n.AssumedClip) -> str:
    clip = note.clip
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (clip.mean, clip.std))
    return (
        f"assumed clip: {clip.clip_frames} frames at {clip.fps:g}/s, resize {clip.resize[0]}x{clip.resize[1]}, "
        f"crop {clip.crop[0]}x{clip.crop[1]}, {clip.channel_order}, mean {mean}, std {std}; "
        f"set {', '.join(note.options)} if the model was trained otherwise"
    )


@phrase.register
def _(note: n.AccuracyNotMeasured) -> str:
    return f"accuracy not measured: {note.error}"


@phrase.register
def _(_note: n.RandomWeights) -> str:
    return "accuracy not measured: the weights are random"


@phrase.register
def _(note: n.UntestedClasses) -> str:
    more = f" (and {note.others} more classes)" if note.others else ""
    return f"class '{note.label}'{more} has no {note.split} video: accuracy says nothing of it"
