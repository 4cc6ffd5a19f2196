"""Sentences of the self-check of a bundle on a device."""

from __future__ import annotations

from edgeact.phrases._phrase import phrase
from edgeact.self_check_results import CheckStage, SelfCheckFailed, StageResult, UncheckedCause

__all__: list[str] = []

_UNCHECKED: dict[UncheckedCause, str] = {
    "no-golden-clip": "the bundle has no golden clip; export the model again",
    "no-figures": "the bundle has no figures of this stage; export the model again",
    "no-opencv": "OpenCV is not installed; run: pip install 'edgeact[video]'",
    "no-decoder": "OpenCV cannot decode the golden clip here",
    "decoded-differently": "decoded frames differ here, and the bundle has no pixels to start from; export again",
}
_STAGE_FAILED: dict[CheckStage, str] = {
    "decode": "the video decoder of this machine delivers other frames; install another OpenCV",
    "resize": "OpenCV resizes frames differently here; install another OpenCV",
    "normalize": "the preprocessing computes another network input here; install edgeact and OpenCV again",
    "network": "the backend's kernels compute other logits here than where the bundle was exported; use another "
    "artifact or export on this kind of machine",
}
_STAGE_UNITS: dict[CheckStage, str] = {"decode": " levels", "resize": " levels", "normalize": "", "network": " dB"}


@phrase.register
def _(result: StageResult) -> str:
    if result.unchecked is not None or result.figure is None or result.limit is None:
        return f"{result.stage}: not checked: {_UNCHECKED[result.unchecked or 'no-figures']}"
    bound = "at least" if result.stage == "network" else "at most"
    unit = _STAGE_UNITS[result.stage]
    return f"{result.stage}: {result.figure:.4g}{unit} ({bound} {result.limit:g}{unit})"


@phrase.register
def _(reason: SelfCheckFailed) -> str:
    return f"self-check failed at stage {phrase(reason.result)}: {_STAGE_FAILED[reason.result.stage]}"
