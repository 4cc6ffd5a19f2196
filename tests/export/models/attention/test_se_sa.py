"""SE+SA: its equations, frames kept apart, positions without an order, and the paper's variants."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeact.clip import ClipSpec
from edgeact.errors import UsageError
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.graph.values import static_dims
from edgeact.export.models.attention.base import Site
from edgeact.export.models.attention.se import SqueezeExcitation
from edgeact.export.models.attention.se_sa import ChannelFrameExcitation, SelfAttention, SeSaOptions, se_sa
from edgeact.export.models.formula import parse_formula
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.registry import find_model
from tests.messages import names

_CLIP = ClipSpec(clip_frames=8, fps=25.0, resize=(48, 48), crop=(48, 48), mean=(0.4,) * 3, std=(0.2,) * 3)


def _self_attention(seed: int, channels: int = 16) -> SelfAttention:
    """With weights large enough to look at some positions much more than at others."""
    torch.manual_seed(seed)
    module = SelfAttention(channels)
    with torch.no_grad():
        module.gamma.fill_(1.5)
        for layer in (module.f, module.g):
            layer.weight.mul_(4)
    return module


@torch.no_grad()
def test_frames_are_weighed_as_the_paper_does_it_by_transposing() -> None:
    torch.manual_seed(0)
    frames, x = SqueezeExcitation(6, 2, "frames"), torch.randn(2, 8, 6, 4, 5)
    channels = SqueezeExcitation(6, 2)
    channels.load_state_dict(frames.state_dict())
    torch.testing.assert_close(frames(x), channels(x.transpose(1, 2)).transpose(1, 2))
    assert frames.weights(x).shape == (2, 1, 6, 1, 1)


@torch.no_grad()
def test_excitation_is_equations_1_to_6_and_the_sum() -> None:
    torch.manual_seed(1)
    module, u = ChannelFrameExcitation(8, 6, 4, 2), torch.randn(2, 8, 6, 4, 5)
    w1, w2 = (module.get_parameter(f"channels.fc.{layer}.weight") for layer in (0, 2))
    v1, v2 = (module.get_parameter(f"frames.fc.{layer}.weight") for layer in (0, 2))
    s = torch.sigmoid(torch.relu(u.mean(dim=(2, 3, 4)) @ w1.T) @ w2.T)
    weighed = u * s[:, :, None, None, None]
    t = torch.sigmoid(torch.relu(weighed.mean(dim=(1, 3, 4)) @ v1.T) @ v2.T)
    torch.testing.assert_close(module(u), u + weighed * t[:, None, :, None, None])
    assert (w1.shape, v1.shape) == ((2, 8), (3, 6))


@pytest.mark.parametrize("seed", range(8))
def test_a_bottleneck_of_one_unit_is_live_from_the_start(seed: int) -> None:
    torch.manual_seed(seed)
    network = find_model("se-sa-resnet18").build(NetworkConfig(5, 4, 2, (32, 32)))
    for name, module in network.named_modules():
        if isinstance(module, ChannelFrameExcitation):
            channels, frames = (gate.get_parameter("fc.0.weight").shape[1] for gate in (module.channels, module.frames))
            x = torch.rand(1, channels, frames, 2, 2)
            module(x).sum().backward()
            dead = [key for key, p in module.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
            assert dead == [], name


@torch.no_grad()
def test_self_attention_is_sagans_sum_over_positions() -> None:
    module, x = _self_attention(2), torch.randn(1, 16, 2, 3, 2)
    y = module(x)
    for t in range(2):
        frame = x[0, :, t].flatten(1)
        f, g, h = (layer.weight[:, :, 0, 0, 0] @ frame for layer in (module.f, module.g, module.h))
        for j in range(6):
            beta = torch.softmax(torch.stack([g[:, j] @ f[:, i] for i in range(6)]), dim=0)
            o = sum((beta[i] * h[:, i] for i in range(6)), start=torch.zeros(16))
            torch.testing.assert_close(y[0, :, t].flatten(1)[:, j], frame[:, j] + module.gamma * o)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), frame=st.integers(0, 3))
@torch.no_grad()
def test_a_changed_frame_changes_only_itself(seed: int, frame: int) -> None:
    module, x = _self_attention(seed), torch.randn(2, 16, 4, 3, 5)
    other = x.clone()
    other[:, :, frame] += torch.randn(2, 16, 3, 5)
    changed = (module(x) != module(other)).flatten(3).any(dim=3).any(dim=1)
    assert changed.tolist() == [[index == frame for index in range(4)]] * 2


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
@torch.no_grad()
def test_positions_have_no_order(seed: int) -> None:
    module, x = _self_attention(seed), torch.randn(1, 16, 3, 4, 5)
    order = torch.randperm(20)

    def permuted(values: Tensor) -> Tensor:
        return values.flatten(3)[..., order].reshape(values.shape)

    torch.testing.assert_close(module(permuted(x)), permuted(module(x)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(module.weights(x).sum(dim=3), torch.ones(1, 3, 20))


@torch.no_grad()
def test_one_position_looks_at_itself() -> None:
    module, x = _self_attention(3), torch.randn(1, 16, 2, 1, 1)
    torch.testing.assert_close(module(x), x + module.gamma * module.h(x))


@pytest.mark.parametrize(
    ("options", "excitations", "attentions"),
    [
        ("", [1, 2, 3, 4], [1, 2, 3, 4]),
        ("?sa_stages=3,4", [1, 2, 3, 4], [3, 4]),
        ("?modules=se", [1, 2, 3, 4], []),
        ("?modules=se&stages=2", [2], []),
        ("?modules=sa", [], [1, 2, 3, 4]),
        ("?modules=sa&stages=3,4", [], [3, 4]),
        ("?stages=2,3&sa_stages=3", [2, 3], [3]),
    ],
)
def test_options_build_the_variants_of_the_paper(options: str, excitations: list[int], attentions: list[int]) -> None:
    with torch.device("meta"):
        network = parse_formula(f"resnext3d-101+se-sa{options}").build(NetworkConfig(5, 4, 4, (32, 32)))

    def stages(kind: type[nn.Module]) -> list[int]:
        return [int(name.split(".")[1]) + 1 for name, module in network.named_modules() if isinstance(module, kind)]

    assert stages(ChannelFrameExcitation) == excitations
    assert stages(SelfAttention) == attentions


def test_excitation_of_the_activations_stands_before_self_attention() -> None:
    built = se_sa(Site(32, 4, (3, 3), 1), SeSaOptions())
    assert [type(part) for part in built.children()] == [ChannelFrameExcitation, SelfAttention]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("modules=sa&sa_stages=3", "sa_stages needs modules=se-sa"),
        ("stages=1,2&sa_stages=3", "sa_stages must be among stages"),
        ("sa_stages=3,7", "expected sa_stages within 1 to 4, got 3,7"),
        ("modules=as", "option modules"),
    ],
)
def test_what_makes_no_sense_is_refused(options: str, message: str) -> None:
    with pytest.raises(UsageError, check=names(message)):
        parse_formula(f"resnet3d-18+se-sa?{options}")


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", "?sa_stages=3,4", "?modules=se", "?modules=sa"])
def test_the_exported_graph_gives_the_same_without_loops_or_unknown_shapes(options: str) -> None:
    torch.manual_seed(4)
    module = find_model(f"resnet3d-18+se-sa{options}").build(NetworkConfig(5, 8, 8, (48, 48))).eval()
    graph = to_onnx(module, _CLIP)
    kinds = {node.op_type for node in graph.graph}
    assert not kinds & {"Loop", "If", "Scan", "Shape", "Einsum"}
    assert ("Softmax" in kinds) == (options != "?modules=se")
    assert all(static_dims(value) for node in graph.graph for value in node.outputs)
    clip = torch.randn(_CLIP.input_shape)
    session = onnxruntime.InferenceSession(to_bytes(graph), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: clip.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(got, module(clip).numpy(), atol=1e-4, rtol=1e-4)
