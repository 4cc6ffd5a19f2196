"""bfloat16 only if the processor computes in it, and accurately."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgeact.export.train.autocast import is_accurate_in_bfloat16
from edgeact.export.train.frame_cache import PreparedVideos
from edgeact.export.train.loop import fit
from edgeact.export.train.plan import TrainingVideos, TrainPlan
from tests.export.train.modules import Recorder
from tests.export.videos import CLIP

PLAN = TrainPlan(epochs=1, batch_size=8)


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_only_if_the_processor_has_it(
    supported: bool, videos: PreparedVideos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    recorder = Recorder()  # without a convolution that could be inaccurate
    fit(recorder, TrainingVideos(videos), PLAN, tmp_path / "state")
    assert recorder.dtypes == {torch.bfloat16 if supported else torch.float32}


class _InaccurateConv(nn.Conv3d):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * 1.2 if y.dtype == torch.bfloat16 else y


class _Network(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.conv = _InaccurateConv(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.conv(x))


def test_bfloat16_is_not_used_if_a_convolution_is_inaccurate_in_it(
    videos: PreparedVideos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    network = _Network()
    assert not is_accurate_in_bfloat16(network, torch.randn(2, *CLIP.input_shape[1:]))
    network.dtypes.clear()
    fit(network, TrainingVideos(videos, videos), PLAN, tmp_path / "state")
    assert torch.float32 in network.dtypes
    assert not network.training
    assert not network.conv._forward_hooks
