"""Rounding in PyTorch is of the exporter's layers, exact, gone afterwards, and can be trained through."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgeact.clip import ClipSpec
from edgeact.errors import ModelError
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.graph.values import is_dequantized, name_of, operand, quantized_source
from edgeact.export.quantize.activation_ranges import collect_ranges
from edgeact.export.quantize.exclusions import float_everywhere
from edgeact.export.quantize.qdq import quantize
from edgeact.export.train.qat import int8_layers, rounding
from tests.export.graph.exported import exported, random_clips, run_onnx

NETWORKS = ("msf-r3d-fsam", "cnn3d-gate", "c3d", "resnet3d-50+eam", "se-sa-resnet18", "3drfnet-18")
LAYERS = ("Conv", "Gemm", "MatMul")
CLIP = ClipSpec(clip_frames=4, fps=8.0, resize=(16, 16), crop=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(3, 8, 3, padding=1, bias=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.relu(self.conv(x)).mean(dim=(2, 3, 4)))
        return logits


def _clips(count: int) -> list[torch.Tensor]:
    return [torch.from_numpy(clip) for clip in random_clips(CLIP, count)]


def _rounded_layers(graph: ir.Model) -> set[str]:
    """Layers whose weights stand behind a DequantizeLinear."""
    weights = [operand(node, 1) for node in graph.graph if node.op_type in LAYERS]
    names = [name_of(quantized_source(weight)) for weight in weights if is_dequantized(weight)]
    return {name.removesuffix(".weight") for name in names if name.endswith(".weight")}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_exporters_layers_are_rounded_about_as_it_rounds_them(name: str) -> None:
    case = exported(name)
    arrays = random_clips(case.clip, 3)
    graph = quantize(case.graph, collect_ranges(case.graph, arrays), float_everywhere(case.graph))
    layers = int8_layers(case.module, case.graph)
    kinds = {name: type(case.module.get_submodule(name)) for name in _rounded_layers(graph)}
    assert set(layers) == {name for name, kind in kinds.items() if kind in (nn.Conv3d, nn.Linear)}
    before = case.module(torch.from_numpy(arrays[0]))
    with rounding(case.module, layers, map(torch.from_numpy, arrays)):
        ours = [case.module(torch.from_numpy(clip)).numpy() for clip in arrays]
    theirs = [run_onnx(graph, clip) for clip in arrays]
    plain = [run_onnx(case.graph, clip) for clip in arrays]
    apart, lost = (np.linalg.norm(np.array(each) - np.array(plain)) for each in (ours, theirs))
    assert 0.3 * lost < apart < 2.5 * lost  # not the same: the exporter's graph rounds outputs as well
    assert torch.equal(case.module(torch.from_numpy(arrays[0])), before)


@torch.no_grad()
def test_a_layer_computes_with_integers_times_steps() -> None:
    module, clips = _Small().eval(), _clips(2)
    with rounding(module, ["conv"], clips):
        found = module.conv(clips[0])
    step = max(float(clip.abs().max()) for clip in clips) / 127
    steps = module.conv.weight.abs().amax(dim=(1, 2, 3, 4), keepdim=True) / 127
    inputs, weights = torch.round(clips[0] / step), torch.round(module.conv.weight / steps)
    sums = nn.functional.conv3d(inputs.double(), weights.double(), padding=1)
    expected = sums * step * steps.reshape(1, -1, 1, 1, 1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_gradients_pass_the_rounding_and_training_learns_to_live_with_it() -> None:
    module, clips = _Small(), _clips(8)
    batch, labels = torch.cat(clips), torch.arange(8) % 5
    keys = list(module.state_dict())
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    losses = []
    with rounding(module, ["conv", "head"], clips):
        for _ in range(150):
            loss = nn.functional.cross_entropy(module(batch), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            assert module.conv.weight.grad is not None
            assert module.conv.weight.grad.abs().sum() > 0
            optimizer.step()
            losses.append(loss.item())
        assert list(module.state_dict()) == keys
    assert losses[-1] < 0.9 * losses[0]


def _fail(module: nn.Module, clip: torch.Tensor) -> None:
    with rounding(module, ["conv", "head"], [clip]):
        raise ZeroDivisionError(module(clip))


def test_an_error_leaves_the_module_in_float() -> None:
    module, clips = _Small().eval(), _clips(1)
    before = module(clips[0])
    with pytest.raises(ZeroDivisionError) as error:
        _fail(module, clips[0])
    assert not torch.equal(error.value.args[0], before)
    assert torch.equal(module(clips[0]), before)


def test_a_layer_that_reads_zeros_alone_stays_as_it_is() -> None:
    module = _Small().eval()
    with rounding(module, ["conv"], [torch.zeros(CLIP.input_shape)]):
        assert torch.isfinite(module(torch.zeros(CLIP.input_shape))).all()


def test_a_network_without_layers_for_int8_is_refused() -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=(2, 3, 4))

    master = to_onnx(Mean().eval(), CLIP)
    with pytest.raises(ModelError, match="no layer of this model would be computed in INT8"):
        int8_layers(Mean(), master)
