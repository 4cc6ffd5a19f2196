"""PyTorch to ONNX: the same numbers at every opset, the same bytes each time, and reasons where it cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from edgeact.errors import ConversionError
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import INPUT_NAME, OUTPUT_NAME, at_opset, to_onnx
from edgeact.export.graph.values import is_constant, static_dims
from edgeact.export.models.registry import MODELS
from tests.export.graph.exported import exported, random_clips, run_onnx
from tests.export.graph.graphs import graph, node
from tests.matrix.sweep import matrix_models
from tests.messages import names


@pytest.mark.slow
@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("name", MODELS)
def test_every_opset_computes_what_pytorch_does(name: str, opset: int) -> None:
    case = exported(name)
    (clip,) = random_clips(case.clip, 1)
    older = at_opset(case.graph, opset)
    assert older.opset_imports == {"": opset}
    with torch.no_grad():
        expected = case.module(torch.from_numpy(clip)).numpy()
    np.testing.assert_allclose(run_onnx(older, clip), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_graph_is_static_named_and_of_no_machine(name: str) -> None:
    model = exported(name).graph
    shapes = {value.name: static_dims(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    assert shapes == {INPUT_NAME: (1, 3, 4, 32, 32), OUTPUT_NAME: (1, 5)}
    node_names = [entry.name for entry in model.graph]
    assert all(node_names)
    assert len(set(node_names)) == len(node_names)
    assert "BatchNormalization" not in {entry.op_type for entry in model.graph}
    bare = ir.to_proto(model)
    for tensor in bare.graph.initializer:
        tensor.ClearField("raw_data")  # among millions of weights any few bytes are found
    data = bare.SerializeToString()
    for trace in (Path(__file__).resolve().parents[3], Path(torch.__file__).parent, Path.home()):
        assert os.fsencode(trace) + b"/" not in data
    assert b".py" not in data


# What loops, what branches, and what makes or reads a shape that is not known before the clip is.
_NOT_STATIC = {
    "If",
    "Loop",
    "Scan",
    "NonZero",
    "Shape",
    "Size",
    "Range",
    "ConstantOfShape",
    "Where",
    "ScatterND",
    "Unique",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", matrix_models())
def test_no_graph_loops_or_computes_a_shape(name: str) -> None:
    """Every row and every attention module: self-attention, global pooling, 1-D convolutions, swapped frame axes."""
    nodes = list(exported(name).graph.graph)
    assert not {entry.op_type for entry in nodes} & _NOT_STATIC
    assert not [entry.name for entry in nodes if "GRAPH" in {item.type.name for item in entry.attributes.values()}]
    assert [value.name for entry in nodes for value in entry.outputs if not all(static_dims(value) or (0,))] == []
    for entry in nodes:
        if entry.op_type in ("Reshape", "Expand", "Slice"):
            assert all(is_constant(value) for value in entry.inputs[1:]), entry.name


@pytest.mark.slow
def test_the_same_module_gives_the_same_bytes() -> None:
    case = exported("msf-r3d-fsam")
    assert to_bytes(to_onnx(case.module, case.clip)) == to_bytes(case.graph)


class _DataDependent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x.mean(dim=(2, 3, 4))
        return x.amax(dim=(2, 3, 4))


def test_data_dependent_control_flow_is_reported_with_its_place(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConversionError) as caught:
        to_onnx(_DataDependent(), exported("cnn3d").clip)
    message = str(caught.value)
    assert message.startswith("the model cannot be converted to ONNX: ")
    assert Path(__file__).name in message or "x.sum()" in message
    assert "replace data-dependent control flow" in message
    assert "\n" not in message
    assert capfd.readouterr().out == ""


def test_an_older_opset_leaves_the_graph_given_alone() -> None:
    model = exported("msf-r3d-fsam").graph
    before = to_bytes(model)
    at_opset(model, 13)
    assert to_bytes(model) == before
    assert to_bytes(at_opset(model, 20)) == before


@pytest.mark.parametrize(
    ("model", "opset", "parts"),
    [
        (graph([node("GridSample", ["x", "g"], ["y"])], {"g": np.zeros((1, 2, 2, 2), np.float32)}, shape=(1, 2, 4, 4)),
         13, ("cannot be written in opset 13", "GridSample", "newer TensorRT")),
        (graph([node("Cast", ["x"], ["i"], to=7), node("ReduceMax", ["x", "i"], ["y"])], shape=(2,), opset=18),
         17, ("'the_ReduceMax' (ReduceMax)", "expected constant axes, got computed ones")),
    ],
)  # fmt: skip
def test_operators_without_an_older_form_are_refused(model: ir.Model, opset: int, parts: tuple[str, ...]) -> None:
    with pytest.raises(ConversionError, check=names(*parts)):
        at_opset(model, opset)
