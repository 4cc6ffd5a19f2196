from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import onnx
import openvino
import pytest
import torch

from edgeact.errors import ParityError
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from tests.benchmarks.subjects import (
    Array,
    Subject,
    nncf_default_int8,
    nncf_defaults,
    onnxruntime_subject,
    openvino_subject,
    require_agreement,
    torch_subject,
)
from tests.benchmarks.timing import time_in_turns
from tests.messages import names

pytestmark = pytest.mark.timing

_REQUEST = LoadRequest(random_weights=True, width=16, clip_frames=4, size=32)


def _clips(count: int, shape: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype=np.float32) for _ in range(count)]


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return load_model("msf-r3d-fsam", _REQUEST)


@pytest.fixture(scope="module")
def graph(tiny: LoadedModel) -> bytes:
    return to_bytes(to_onnx(tiny.module, tiny.clip))


@pytest.fixture(scope="module")
def reference(tiny: LoadedModel) -> Subject:
    return torch_subject(tiny.module, torch.get_num_threads())


def test_fp32_subjects_agree_with_pytorch(tiny: LoadedModel, graph: bytes, reference: Subject) -> None:
    clips = _clips(2, tiny.clip.input_shape)
    model = openvino.Core().read_model(graph)
    for peer in (onnxruntime_subject(graph, 1), openvino_subject("OpenVINO FP32", "fp32", model, 1)):
        assert require_agreement(peer, reference, clips) > 80
    assert "f32" in peer.how


def test_nncf_default_int8_is_quantized_and_agrees_with_pytorch(
    tiny: LoadedModel, graph: bytes, reference: Subject
) -> None:
    clips = _clips(8, tiny.clip.input_shape)
    peer = nncf_default_int8(nncf_defaults(graph, clips), clips, 1)
    assert require_agreement(peer, reference, clips) < 40  # agrees, but not exactly as the float graph
    assert "nncf.quantize with no option, 8 clips" in peer.how
    assert " i8" in peer.how or " u8" in peer.how  # kernels of the compiled model, not only nodes of the graph


def test_nncf_defaults_refuse_a_graph_without_quantized_layers() -> None:
    node = onnx.helper.make_node("Flatten", ["clip"], ["logits"])
    clip = onnx.helper.make_tensor_value_info("clip", onnx.TensorProto.FLOAT, [1, 3, 4, 8, 8])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 768])
    body = onnx.helper.make_graph([node], "flatten", [clip], [logits])
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    with pytest.raises(ParityError, check=names("NNCF quantized no layer")):
        nncf_defaults(model.SerializeToString(), _clips(1, (1, 3, 4, 8, 8)))


def test_require_agreement_refuses_another_model(tiny: LoadedModel, reference: Subject) -> None:
    other = load_model("msf-r3d-fsam", replace(_REQUEST, seed=1))
    wrong = replace(torch_subject(other.module, torch.get_num_threads()), name="peer", precision="int8")
    with pytest.raises(ParityError, match=r"'peer' against PyTorch.*: cosine -?0\.[0-3].* the models differ"):
        require_agreement(wrong, reference, _clips(2, tiny.clip.input_shape))


@pytest.mark.parametrize("value", [0.0, np.nan], ids=["zeros", "nan"])
def test_require_agreement_refuses_zeros_and_nan(value: float, tiny: LoadedModel, reference: Subject) -> None:
    empty = replace(reference, name="empty", precision="int8", run=lambda clip: reference.run(clip) * np.float32(value))
    with pytest.raises(ParityError, check=names("'empty' against PyTorch")):
        require_agreement(empty, reference, _clips(1, tiny.clip.input_shape))


def test_require_agreement_refuses_coarse_logits_as_fp32(tiny: LoadedModel, reference: Subject) -> None:
    rng = np.random.default_rng(0)

    def noisy(clip: Array) -> Array:
        logits = reference.run(clip)
        return logits * (1 + 0.02 * rng.standard_normal(logits.shape)).astype(np.float32)

    clips = _clips(2, tiny.clip.input_shape)
    coarse = replace(reference, name="coarse", run=noisy)
    with pytest.raises(ParityError, check=names("60 dB for fp32")):
        require_agreement(coarse, reference, clips)
    assert 20 < require_agreement(replace(coarse, precision="bf16"), reference, clips) < 60


def test_time_in_turns_has_an_untimed_run_before_each_timed_run() -> None:
    calls: list[str] = []

    def subject(name: str) -> Subject:
        def run(clip: Array) -> Array:
            if calls and calls[-1] != name:
                time.sleep(0.1)  # the first call after that of another library is slow
            calls.append(name)
            return clip

        return Subject(name, "fp32", run, "")

    latencies = time_in_turns([subject("a"), subject("b")], np.zeros(1, np.float32), rounds=3)
    assert calls[-12:] == ["a", "a", "b", "b"] * 3
    assert {name: latency.runs for name, latency in latencies.items()} == {"a": 3, "b": 3}
    assert max(latency.min_ms for latency in latencies.values()) < 100  # never the one that waited
