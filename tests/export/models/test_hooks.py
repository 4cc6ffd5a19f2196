"""Temporary evaluation mode and hooks: what is observed, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from edgeact.export.models.hooks import capture_outputs, evaluated, forward_hooks, forward_pre_hooks
from tests.messages import names


def _module() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())


def _hook_count(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_every_submodule_gets_its_mode_back() -> None:
    module = _module().train()
    module[1].eval()
    with evaluated(module) as same:
        assert same is module
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == [True, True, False, True]


def test_forward_hooks_see_name_layer_inputs_and_output() -> None:
    module, x = _module().eval(), torch.randn(2, 3)
    calls: list[tuple[str, nn.Module, Tensor, Tensor]] = []

    def hook(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((name, layer, inputs[0], output))

    with forward_hooks(dict(module.named_children()), hook):
        result = module(x)
    module(x)
    assert [(name, layer) for name, layer, _, _ in calls] == list(module.named_children())
    assert calls[0][2] is x
    assert calls[0][3] is calls[1][2]
    assert calls[-1][3] is result


def test_forward_pre_hooks_are_called_before_the_layer() -> None:
    module, x = _module().eval(), torch.randn(2, 3)
    calls: list[str] = []

    def before(name: str, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls.append(f"before {name} {inputs[0].shape[1]}")

    def after(name: str, _layer: nn.Module, _inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        calls.append(f"after {name}")

    layers = {"first": module[0], "norm": module[1]}
    with forward_pre_hooks(layers, before), forward_hooks(layers, after):
        module(x)
    module(x)
    assert calls == ["before first 3", "after first", "before norm 4", "after norm"]


def test_the_latest_output_of_each_name_is_captured() -> None:
    module = _module().eval()
    with capture_outputs(module, ["0", "2"]) as outputs:
        assert outputs == {}
        module(torch.zeros(1, 3))
        result = module(torch.ones(1, 3))
    assert list(outputs) == ["0", "2"]
    assert outputs["2"] is result
    assert torch.equal(outputs["0"], module[0](torch.ones(1, 3)))
    with pytest.raises(AttributeError, check=names("missing")), capture_outputs(module, ["0", "missing"]):
        pass
    assert _hook_count(module) == 0


def _observe(*_arguments: object) -> None:
    pass


@pytest.mark.parametrize(
    "observed",
    [
        evaluated,
        lambda module: forward_hooks({"": module}, _observe),
        lambda module: forward_pre_hooks({"": module}, _observe),
        lambda module: capture_outputs(module, ["0"]),
    ],
    ids=["evaluated", "forward_hooks", "forward_pre_hooks", "capture_outputs"],
)
def test_an_error_inside_leaves_the_module_as_before(
    observed: Callable[[nn.Module], AbstractContextManager[object]],
) -> None:
    module = _module()
    with pytest.raises(ZeroDivisionError), observed(module):
        raise ZeroDivisionError
    assert _hook_count(module) == 0
    assert all(part.training for part in module.modules())
