"""Distillation: the published losses, students of any width, and states that belong to their teacher."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeact.errors import ModelError, UsageError
from edgeact.export.train.distill import Distillation, Teacher, distillation_loss, feature_layer
from edgeact.export.train.frame_cache import PreparedVideos
from edgeact.export.train.loop import Method, fit
from edgeact.export.train.plan import TrainingVideos, TrainPlan
from tests.export.train.modules import Recorder, build, have_equal_states
from tests.export.train.watching import InterruptedTrainingError, interrupting_after
from tests.export.videos import CLIP
from tests.messages import names

PLAN = TrainPlan(epochs=2, batch_size=4)
CLIPS = torch.randn(4, *CLIP.input_shape[1:], generator=torch.Generator().manual_seed(1))
NO_AUTOCAST = torch.autocast("cpu", enabled=False)


def _module(name: str = "cnn3d-gate", *, width: int = 4, classes: int = 2, seed: int = 0) -> nn.Module:
    return build(name, width=width, classes=classes, seed=seed).eval()


def _loss(teacher: nn.Module, student: nn.Module, terms: Distillation) -> Tensor:
    with distillation_loss(student, Teacher(teacher, terms), NO_AUTOCAST, CLIPS[:1]) as loss:
        logits = student(CLIPS)
        return loss(logits.new_tensor(1.5), CLIPS, logits)


@settings(max_examples=8)
@given(temperature=st.floats(0.5, 8), weight=st.floats(0, 1))
@torch.no_grad()
def test_the_soft_target_loss_is_as_published(temperature: float, weight: float) -> None:
    teacher, student = _module(seed=1), _module(seed=2)
    loss = float(_loss(teacher, student, Distillation(temperature, weight)))
    p, q = (torch.softmax(module(CLIPS).double() / temperature, dim=1) for module in (teacher, student))
    divergence = float((p * (p / q).log()).sum(1).mean())
    assert loss == pytest.approx((1 - weight) * 1.5 + weight * temperature**2 * divergence, abs=1e-5)


@torch.no_grad()
def test_a_student_equal_to_its_teacher_has_no_loss() -> None:
    teacher = _module()
    assert float(_loss(teacher, copy.deepcopy(teacher), Distillation(4, 1.0, 3.0))) == pytest.approx(0, abs=1e-6)
    assert float(_loss(teacher, _module(seed=5), Distillation(4, 1.0))) > 1e-6


@pytest.mark.parametrize("name", ["msf-r3d-fsam", "cnn3d-gate"])
def test_feature_maps_of_any_width_are_compared_and_give_the_student_gradients(name: str) -> None:
    teacher, student = _module(name, width=8), _module(name, seed=3)
    layer = feature_layer(teacher, CLIPS[:1])
    shapes: list[tuple[int, ...]] = []
    handle = teacher.get_submodule(layer).register_forward_hook(lambda _l, _i, out: shapes.append(tuple(out.shape)))
    plain = _loss(teacher, student, Distillation(4, 0.5))
    handle.remove()
    with_features = _loss(teacher, student, Distillation(4, 0.5, 1.0))
    assert len(shapes[0]) == 5
    assert math.prod(shapes[0][2:]) > 1
    assert 0 < float(with_features.detach()) - float(plain.detach()) <= 2
    (with_features - plain).backward()  # type: ignore[no-untyped-call]
    grads = [p.grad.abs().sum() for p in student.get_submodule(layer).parameters() if p.grad is not None]
    early = next(student.parameters()).grad
    assert early is not None
    assert float(early.abs().sum() + sum(grads, torch.zeros(()))) > 0
    assert all(p.grad is None for p in teacher.parameters())
    assert not any(m._forward_hooks for m in (*teacher.modules(), *student.modules()))


def test_an_impossible_teacher_is_refused() -> None:
    with pytest.raises(ModelError, check=names("a teacher of 2 classes")):
        _loss(_module(classes=3), _module(), Distillation())
    flat = nn.Sequential(nn.Flatten(), nn.Linear(CLIPS[0].numel(), 2))
    with pytest.raises(ModelError, check=names("no layer of the teacher")):
        _loss(flat, copy.deepcopy(flat), Distillation(feature_weight=1.0))
    with pytest.raises(ModelError, check=names("the student has no layer")):
        _loss(_module("msf-r3d-fsam"), _module(), Distillation(feature_weight=1.0))
    for wrong in ((0.0, 0.5, 0.0), (4.0, 1.5, 0.0), (4.0, 0.5, -1.0)):
        with pytest.raises(UsageError, check=names("expected a temperature above 0")):
            Distillation(*wrong)


def test_a_distillation_resumes_bit_identical_and_leaves_its_teacher(
    few_videos: PreparedVideos, tmp_path: Path
) -> None:
    data, terms = TrainingVideos(few_videos), Distillation(feature_weight=0.5)
    teacher = _module(width=8, seed=7)
    before = copy.deepcopy(teacher.state_dict())

    whole, interrupted, resumed = _module(), _module(), _module()
    expected = fit(whole, data, PLAN, tmp_path / "whole", None, Method(Teacher(teacher, terms)))
    with pytest.raises(InterruptedTrainingError):
        fit(interrupted, data, PLAN, tmp_path / "state", interrupting_after(1), Method(Teacher(teacher, terms)))
    assert (
        fit(resumed, data, PLAN, tmp_path / "state", None, Method(Teacher(copy.deepcopy(teacher), terms))) == expected
    )
    assert have_equal_states(resumed, whole)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert not teacher.training


@pytest.mark.parametrize("change", ["teacher", "temperature", "none"])
def test_the_state_of_another_teacher_is_refused(change: str, few_videos: PreparedVideos, tmp_path: Path) -> None:
    plan, data = replace(PLAN, epochs=1), TrainingVideos(few_videos)
    fit(_module(), data, plan, tmp_path / "state", None, Method(Teacher(_module(width=8))))
    other = {
        "teacher": Teacher(_module(width=8, seed=4)),
        "temperature": Teacher(_module(width=8), Distillation(temperature=2.0)),
        "none": None,
    }[change]
    with pytest.raises(UsageError, check=names("the state of another training")):
        fit(_module(), data, plan, tmp_path / "state", None, Method(other))


def test_the_digest_of_a_teacher_is_that_of_earlier_releases() -> None:
    """A changed digest, for example by a renamed field of `Distillation`, would refuse every state on disk."""
    teacher = Recorder()
    for parameter in teacher.parameters():
        nn.init.constant_(parameter, 0.5)
    assert Teacher(teacher).digest == "6d34bc35a565cfd1947baa57b4f899cb073879ba6df1b09f6b514c40f3c702ab"
