"""Every model of the registry: what it takes and gives, the papers' figures, and that training can reach all of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.errors import UnknownNameError
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.registry import MODELS, find_model
from tests.messages import names


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("frames", "size"), [(1, 56), (4, 63), (8, 112), (16, 32)])
def test_models_take_any_length_and_size(name: str, frames: int, size: int) -> None:
    options = NetworkConfig(7, 4, frames, (size, size))
    logits = MODELS[name].build(options).eval()(torch.rand(options.input_shape))
    assert logits.shape == (1, 7)
    assert torch.isfinite(logits).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=5)
@given(
    width=st.integers(1, 6).map(lambda quarter: 4 * quarter),
    class_count=st.integers(1, 400),
    frames=st.integers(1, 33),
    size=st.tuples(st.integers(16, 130), st.integers(16, 130)),
)
def test_shapes_add_up_for_any_options(
    name: str, width: int, class_count: int, frames: int, size: tuple[int, int]
) -> None:
    options = NetworkConfig(class_count, width, frames, size)
    with torch.device("meta"):  # shapes alone, nothing is computed
        assert MODELS[name].build(options).eval()(torch.zeros(2, *options.input_shape[1:])).shape == (2, class_count)


@pytest.mark.parametrize("name", MODELS)
def test_one_seed_gives_one_model(name: str) -> None:
    options = NetworkConfig(5, 4, 4, (32, 32))
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(MODELS[name].build(options).state_dict())
    assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())
    assert any(not torch.equal(tensor, states[2][key]) for key, tensor in states[0].items())


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    # Narrower attention has bottlenecks that may start out dead; in a map of one position nothing is left to attend to.
    options = NetworkConfig(5, 16, 4, (48, 48))
    module = MODELS[name].build(options)
    clips = torch.randn(4, *options.input_shape[1:])
    torch.nn.functional.cross_entropy(module(clips), torch.tensor([0, 1, 2, 3])).backward()  # type: ignore[no-untyped-call]
    dead = [name for name, p in module.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert dead == []


@pytest.mark.parametrize("name", MODELS)
def test_the_classifier_is_if_the_row_says(name: str) -> None:
    spec = MODELS[name]
    module = spec.build(NetworkConfig(11, 4, 4, (32, 32)))
    linear = [key for key, layer in module.named_modules() if isinstance(layer, torch.nn.Linear)]
    assert spec.classifier == linear[-1]
    assert module.get_parameter(f"{spec.classifier}.weight").shape[0] == 11


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_found_by_name_and_carry_their_paper(name: str) -> None:
    spec = find_model(name)
    assert spec is MODELS[name]
    assert spec.paper
    assert spec.clip.crop == (112, 112)


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, check=names("unknown model 'msf-r3d-fasm'; did you mean msf-r3d-fsam")):
        find_model("msf-r3d-fasm")
