"""ONNX to OpenVINO IR: the same numbers, and the same bytes whatever was converted before and in which process."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino
import pytest

from edgeact.errors import ConversionError
from edgeact.export.cpu.openvino import to_openvino
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import at_opset
from edgeact.export.models.registry import MODELS
from edgeact.runtime import OpenRequest, get_backend
from tests.export.graph.exported import exported, random_clips, run_onnx
from tests.export.graph.graphs import graph_proto as graph
from tests.export.graph.graphs import node
from tests.messages import names


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_ir_computes_what_the_graph_does(name: str) -> None:
    case = exported(name)
    xml, weights = to_openvino(to_bytes(case.graph))
    model = openvino.Core().read_model(xml, weights)
    assert [port.get_names() for port in (*model.inputs, *model.outputs)] == [{"clip"}, {"logits"}]
    (clip,) = random_clips(case.clip, 1)
    expected = run_onnx(case.graph, clip)
    for threads in (1, 2):  # OpenVINO compiles other code for one than for more
        request = OpenRequest(xml, "openvino-ir", "fp32", clip.shape, expected.size, weights=weights, threads=threads)
        session = get_backend("openvino").open(request)
        np.testing.assert_allclose(session.run(clip), expected, atol=1e-4, rtol=1e-3)
        session.close()


def test_half_weights_take_half_the_room() -> None:
    data = to_bytes(exported("r3d-18").graph)
    full, half = (to_openvino(data, compress_to_fp16=compressed)[1] for compressed in (False, True))
    assert len(half) < 0.6 * len(full)


_CODE = """
import sys, hashlib
from pathlib import Path
from edgeact.export.cpu.openvino import to_openvino
import openvino.opset13 as ops
for _ in range(7):
    ops.constant(1.0)
xml, weights = to_openvino(Path(sys.argv[1]).read_bytes())
print(hashlib.sha256(xml + weights).hexdigest())
"""


@pytest.mark.parametrize("name", ["msf-r3d-fsam", "cnn3d-gate"])
def test_bytes_are_equal_in_one_process_and_in_two(name: str, tmp_path: Path) -> None:
    data = to_bytes(at_opset(exported(name).graph, 17))
    first, second = to_openvino(data), to_openvino(data)
    assert first == second
    (tmp_path / "graph.onnx").write_bytes(data)
    command = [sys.executable, "-c", _CODE, str(tmp_path / "graph.onnx")]
    other = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert other.stdout.strip() == hashlib.sha256(first[0] + first[1]).hexdigest()


def test_refusals_name_the_layer_and_the_reason() -> None:
    model = graph([node("MaxPool", ["x"], ["y"], "the_pool", kernel_shape=[2, 2, 2])], shape=(1, 4, 4, 8, 8))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1
    with pytest.raises(ConversionError, check=names("layer 'the_pool' (MaxPool): ")):
        to_openvino(model.SerializeToString())


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(ConversionError, check=names("OpenVINO cannot convert the graph")):
        to_openvino(b"no model")
