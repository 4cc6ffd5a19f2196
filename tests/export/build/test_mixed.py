"""Whole exports of networks that INT8 hurts: the one layer is found, told and left in float, or it is told why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgeact.bundle import open_bundle
from edgeact.errors import ParityError, UsageError
from edgeact.export.build.data import RANDOM_DATA, DataPlan
from edgeact.export.build.recipe import RECIPE_MEMBER
from edgeact.export.models.loading import LoadRequest
from edgeact.reasons import MixedPrecision
from edgeact.runtime import get_backend, load
from tests.export.build.exporting import Case, export
from tests.export.colours import LABELS, ColourNet
from tests.messages import names

LARGE = 1e6  # a step of INT8 for the largest feature is far above those that tell colours apart


class HurtHead(ColourNet):
    """Features that say nothing of colours are made large before the head, which takes them back."""

    gain: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.ones(16))
        self.gain[3:] = LARGE
        with torch.no_grad():
            self.head.weight[:, 3:] /= LARGE

    def forward(self, clip: Tensor) -> Tensor:
        features = torch.relu(self.norm(self.stem(clip)))
        features = torch.relu(self.body(features)).mean(dim=(2, 3, 4)) * self.gain
        logits: Tensor = self.head(features)
        return logits


class HurtBody(ColourNet):
    """The same between the two convolutions: what hurts is where the arithmetic is."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.norm.weight[3:] *= 1e4
            self.norm.bias[3:] *= 1e4
            self.body.weight[:, 3:] /= 1e4


@pytest.fixture
def request_for(colour_videos: Path, tmp_path: Path, cache: Path) -> Case:
    """An export of the network whose head is hurt."""
    return Case(
        target="jetson",
        out=tmp_path / "made.edgeact",
        source=HurtHead(),
        load=LoadRequest(labels=LABELS, clip_frames=4, size=32, fps=8.0),
        data=DataPlan(str(colour_videos)),
        threads=1,
    )


@pytest.mark.slow
def test_on_a_cpu_the_sensitive_layer_alone_goes_to_float_and_the_bundle_says_so(request_for: Case) -> None:
    with pytest.raises(ParityError, check=names("--precision mixed keeps the layers in float")):
        export(replace(request_for, target="cpu", precision="int8"))
    bundle = export(replace(request_for, target="cpu", precision="mixed"))
    assert bundle.measurements is not None
    rows = {row.artifact: row for row in bundle.measurements.rows}
    backends = ("openvino", "onnx", *(() if get_backend("native").why_unavailable() else ("native",)))
    assert set(rows) == {"pytorch", *(f"{one}-{kind}" for one in backends for kind in ("int8", "mixed"))}
    assert {rows[f"{one}-int8"].verdict for one in backends} == {"rejected"}
    assert {rows[f"{one}-mixed"].precision for one in backends} == {"int8"}
    assert rows["openvino-mixed"].latency is not None
    assert rows["openvino-mixed"].parity is not None
    assert rows["openvino-mixed"].parity.passed
    for artifact in bundle.manifest.artifacts:
        assert len(artifact.float_layers) == 1
    (sensitivity,) = open_bundle(bundle.path).measurements.sensitivity  # type: ignore[union-attr]
    assert [one.weight for one in sensitivity.layers if one.float_reason] == ["head.weight"]
    assert len(sensitivity.layers) == 3
    assert (sensitivity.mixed_snr_db or 0) > (sensitivity.snr_db or 0) + 3
    mixed = [decision for decision in bundle.measurements.decisions if isinstance(decision, MixedPrecision)]
    assert mixed[0].layers == 1
    assert mixed[0].needed_layers is None
    with load(bundle.path, threads=1) as recognizer:
        assert recognizer.labels == LABELS


@pytest.mark.slow
def test_a_board_gets_the_mix_before_what_is_slower(request_for: Case) -> None:
    bundle = export(request_for)
    assert bundle.manifest.preferred == ("trt-mixed", "trt-fp16", "onnx-fp32")
    assert bundle.measurements is not None
    names = [row.artifact for row in bundle.measurements.rows]
    assert names == ["pytorch", "trt-int8", "trt-mixed", "trt-fp16", "onnx-fp32"]
    recipe = [member.path for member in bundle.manifest.members if member.path.endswith("trt-mixed.recipe.json")]
    assert recipe


@pytest.mark.slow
def test_if_too_much_would_remain_in_float_it_is_reported_what_would_do(request_for: Case) -> None:
    bundle = export(replace(request_for, source=HurtBody()))
    assert bundle.measurements is not None
    mixed = [decision for decision in bundle.measurements.decisions if isinstance(decision, MixedPrecision)]
    assert mixed[-1].needed_share is not None
    assert mixed[-1].needed_share > mixed[-1].share_limit
    assert "trt-fp16" in bundle.manifest.preferred


@pytest.mark.slow
def test_sensitivity_is_recorded_on_request_and_changes_nothing(request_for: Case) -> None:
    request = replace(request_for, source=ColourNet(), precision="int8")
    plain, looked = export(request), export(replace(request, sensitivity=True))
    assert plain.measurements is not None
    assert looked.measurements is not None
    assert plain.measurements.sensitivity == ()
    (sensitivity,) = looked.measurements.sensitivity
    assert sensitivity.artifact == "trt-int8"
    assert {one.weight for one in sensitivity.layers} <= {"stem.weight", "body.weight", "head.weight"}
    assert sensitivity.mixed_top1_agreement is None
    assert plain.manifest.artifacts == looked.manifest.artifacts
    assert {one.path: one.sha256 for one in plain.manifest.members if one.path != RECIPE_MEMBER} == {
        one.path: one.sha256 for one in looked.manifest.members if one.path != RECIPE_MEMBER
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "nano", "precision": "mixed"}, ("--precision mixed is about INT8, which", "Nano", "does not have")),
        ({"target": "nano", "sensitivity": True}, ("--sensitivity is about INT8, which", "Nano", "does not have")),
        ({"precision": "fp16", "sensitivity": True}, ("which --precision fp16 leaves out",)),
        ({"sensitivity": True, "data": DataPlan(RANDOM_DATA, accept_poor=True)}, ("needs real clips",)),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    request_for: Case, changes: dict[str, object], message: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, check=names(*message)):
        export(replace(request_for, **changes))  # type: ignore[arg-type]
    assert not request_for.out.exists()
