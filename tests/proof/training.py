"""Training of the subjects: each phase once, unless its weights are in the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeact.export.models.registry import find_model
from edgeact.export.train.plan import TrainPlan
from edgeact.export.train.train import TrainRequest, train
from edgeact.progress import Callbacks
from tests.proof.plan import DATA, WIDTH, Subject, proof_clip

__all__ = ["trained_weights"]


def trained_weights(subject: Subject, folder: Path, on_step: Callable[[str], None]) -> Path:
    """Return the weights of the last phase; train missing phases, resuming after the last finished epoch."""
    clip = proof_clip(find_model(subject.model).clip)
    base = find_model(subject.single_frame_of) if subject.single_frame_of else None
    initial = _file(folder, base.name, 1) if base else None
    for number, phase in enumerate(subject.phases, start=1):
        out = _file(folder, subject.name, number)
        if not out.is_file():
            on_step(f"training {subject.name}, phase {number} of {len(subject.phases)}")
            plan = TrainPlan(
                epochs=phase.epochs, learning_rate=phase.learning_rate, frames="single" if base else "clip"
            )
            request = TrainRequest(
                subject.model,
                DATA,
                out,
                plan,
                width=WIDTH,
                clip_frames=clip.clip_frames,
                size=clip.crop[0],
                resize=clip.resize,
                fps=clip.fps,
                init=initial,
            )
            train(request, Callbacks(on_event=lambda event: on_step(str(event))))
        initial = out
    assert initial is not None
    return initial


def _file(folder: Path, name: str, phase: int) -> Path:
    return folder / f"{name}-{phase}.safetensors"
