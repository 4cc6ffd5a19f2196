"""Fake quantization: the exporter's layers, exact values, gradients straight through, and nothing left behind."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgeact.clip import ClipSpec
from edgeact.errors import ModelError
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.graph.values import is_dequantized, name_of, operand, quantized_source
from edgeact.export.quantize.activation_ranges import collect_ranges
from edgeact.export.quantize.exclusions import float_everywhere
from edgeact.export.quantize.qdq import quantize
from edgeact.export.train.qat import fake_quantized, int8_layers
from tests.export.graph.exported import exported, random_clips
from tests.messages import names

NETWORKS = ("msf-r3d-fsam", "cnn3d-gate", "c3d", "resnet3d-50+eam", "se-sa-resnet18", "3drfnet-18")
LAYERS = ("Conv", "Gemm", "MatMul")
CLIP = ClipSpec(clip_frames=4, fps=8.0, resize=(16, 16), crop=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
TIES = (np.arange(-127, 127, dtype=np.float32) + np.float32(0.5)) * np.float32(0.1)
PIXELS = (np.arange(256, dtype=np.float32) / 255 - np.float32(0.5)) / np.float32(0.5)


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.relu(self.conv(x)).mean(dim=(2, 3, 4)))
        return logits


def _clips(count: int) -> list[torch.Tensor]:
    return [torch.from_numpy(clip) for clip in random_clips(CLIP, count)]


def _run_exactly(model: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run every node as ONNX defines it. Optimized, some CPUs add products in saturating 16 bits."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return result


def _quantized_layers(graph: ir.Model) -> set[str]:
    """Return the layers whose weights are behind a DequantizeLinear."""
    weights = [operand(node, 1) for node in graph.graph if node.op_type in LAYERS]
    names = [name_of(quantized_source(weight)) for weight in weights if is_dequantized(weight)]
    return {name.removesuffix(".weight") for name in names if name.endswith(".weight")}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_exporters_layers_are_quantized_with_about_its_error(name: str) -> None:
    case = exported(name)
    arrays = random_clips(case.clip, 3)
    graph = quantize(case.graph, collect_ranges(case.graph, arrays), float_everywhere(case.graph))
    layers = int8_layers(case.module, case.graph)
    kinds = {name: type(case.module.get_submodule(name)) for name in _quantized_layers(graph)}
    assert set(layers) == {name for name, kind in kinds.items() if kind in (nn.Conv3d, nn.Linear)}
    before = case.module(torch.from_numpy(arrays[0]))
    with fake_quantized(case.module, layers, map(torch.from_numpy, arrays)) as fake_quant:
        assert set(fake_quant.layers) == set(layers)
        ours = [case.module(torch.from_numpy(clip)).numpy() for clip in arrays]
    theirs = [_run_exactly(to_bytes(graph), clip) for clip in arrays]
    plain = [_run_exactly(to_bytes(case.graph), clip) for clip in arrays]
    our_error, their_error = (np.linalg.norm(np.array(logits) - np.array(plain)) for logits in (ours, theirs))
    assert 0.3 * their_error < our_error < 2.5 * their_error  # not equal: the graph quantizes outputs as well
    assert torch.equal(case.module(torch.from_numpy(arrays[0])), before)


@torch.no_grad()
def test_a_layer_computes_integer_products_times_scales() -> None:
    module, clips = _Small().eval(), _clips(2)
    with fake_quantized(module, ["conv"], clips):
        output = module.conv(clips[0])
    scale = torch.tensor(max(float(clip.abs().max()) for clip in clips) / 127)
    scales = module.conv.weight.abs().amax(dim=(1, 2, 3, 4), keepdim=True) / 127
    inputs, weights = torch.round(clips[0] * (1 / scale)), torch.round(module.conv.weight * (1 / scales))
    sums = nn.functional.conv3d(inputs.double(), weights.double(), padding=1)
    bias = module.conv.get_parameter("bias").reshape(1, -1, 1, 1, 1)
    expected = sums * scale * scales.reshape(1, -1, 1, 1, 1) + bias
    torch.testing.assert_close(output.double(), expected.double(), rtol=1e-4, atol=1e-5)


def _identity_of(values: NDArray[np.float32], largest: float) -> tuple[nn.Module, torch.Tensor]:
    """Return a linear layer that passes its input on, fake-quantized with the scale `largest` / 127."""
    layer = nn.Linear(len(values), len(values), bias=False)
    nn.init.eye_(layer.weight)
    return nn.Sequential(layer), torch.full((1, len(values)), largest)


@pytest.mark.parametrize(
    ("values", "largest"),
    [(TIES, 12.7), (PIXELS, 127 / 127.5), (PIXELS, 1.0), (np.linspace(-3, 3, 999, dtype=np.float32), 1.7)],
    ids=["ties", "pixels that are ties", "pixels that are none", "clipped"],
)
@torch.no_grad()
def test_values_are_multiplied_by_the_reciprocal_and_rounded_half_to_even(
    values: NDArray[np.float32], largest: float
) -> None:
    module, clip = _identity_of(values, largest)
    with fake_quantized(module, ["0"], [clip]):
        quantized = module(torch.from_numpy(values)[None]).numpy()[0]
    scale = np.float32(float(clip.max()) / 127)
    quotients = values * (np.float32(1) / scale)
    np.testing.assert_array_equal(quantized, np.clip(np.rint(quotients), -127, 127) * scale)
    differs = np.rint(quantized / scale) != np.clip(np.rint(_quantized_by_onnx(values, scale) / scale), -127, 127)
    assert np.abs(np.abs(quotients - np.trunc(quotients)) - 0.5)[differs].max(initial=0) < 1e-5  # only ties


def _quantized_by_onnx(values: NDArray[np.float32], scale: np.float32) -> NDArray[np.float32]:
    """Return `values` quantized and dequantized by ONNX Runtime."""
    constants = [
        numpy_helper.from_array(np.array(scale), "scale"),
        numpy_helper.from_array(np.array(0, np.int8), "zero_point"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "graph", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return _run_exactly(model.SerializeToString(), values)


def test_gradients_pass_inside_the_range_alone() -> None:
    module, clip = _identity_of(np.zeros(4, np.float32), 1.0)
    x = torch.tensor([[0.3, -0.9, 1.5, -7.0]], requires_grad=True)
    with fake_quantized(module, ["0"], [clip]):
        module(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1, 1, 0, 0]]


def test_training_adapts_weights_to_fake_quantization() -> None:
    module, clips = _Small(), _clips(8)
    batch, labels = torch.cat(clips), torch.arange(8) % 5
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    losses = []
    with fake_quantized(module, ["conv", "head"], clips):
        for _ in range(150):
            loss = nn.functional.cross_entropy(module(batch), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        trained = {name: tensor.clone() for name, tensor in module.named_parameters()}
    assert losses[-1] < 0.9 * losses[0]
    assert torch.equal(module.conv.weight, trained["conv.parametrizations.weight.original"])
    assert not torch.equal(module.conv.weight, _Small().conv.weight)


def _fail(module: nn.Module, clip: torch.Tensor) -> None:
    with fake_quantized(module, ["conv", "head"], [clip]):
        raise ZeroDivisionError(module(clip))


def test_an_error_leaves_the_module_as_before() -> None:
    module, clips = _Small().eval(), _clips(1)
    parameters = list(module.named_parameters())
    before = module(clips[0])
    with pytest.raises(ZeroDivisionError) as error:
        _fail(module, clips[0])
    assert not torch.equal(error.value.args[0], before)
    assert torch.equal(module(clips[0]), before)
    assert [(name, id(parameter)) for name, parameter in module.named_parameters()] == [
        (name, id(parameter)) for name, parameter in parameters
    ]
    assert [type(module.conv), type(module.head)] == [nn.Conv3d, nn.Linear]
    assert not module.conv._forward_pre_hooks


def test_a_layer_whose_inputs_are_zero_remains_in_float() -> None:
    module = _Small().eval()
    with fake_quantized(module, ["conv"], [torch.zeros(CLIP.input_shape)]) as fake_quant:
        assert fake_quant.layers == ()
        assert torch.isfinite(module(torch.zeros(CLIP.input_shape))).all()


def test_the_digest_tells_layers_apart() -> None:
    module, clips = _Small().eval(), _clips(1)
    digests = set()
    for layers in (["conv"], ["head"], ["conv", "head"]):
        with fake_quantized(module, layers, clips) as fake_quant:
            digests.add(fake_quant.digest)
    assert len(digests) == 3


@pytest.mark.slow
def test_a_network_without_layers_for_int8_is_refused() -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=(2, 3, 4))

    master = to_onnx(Mean().eval(), CLIP)
    with pytest.raises(ModelError, check=names("no layer would be computed in INT8")):
        int8_layers(Mean(), master)
