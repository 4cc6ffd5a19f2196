"""Tiny models and bundles that tests open with the real libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeact.bundle import Artifact, Bundle, BundleDraft, ModelInfo, write_bundle
from edgeact.bundle.manifest import Role
from edgeact.clip import ClipSpec
from edgeact.runtime import OpenRequest
from edgeact.runtime.native.program import Buffer, Conv, Dense, Epilogue, Input, Program, Reduce, join_tensors

LABELS = ("dark", "red", "green", "blue")
CLIP = ClipSpec(clip_frames=4, fps=8.0, resize=(18, 20), crop=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def tiny_onnx(seed: int = 0, bad_node: bool = False) -> bytes:
    """Return a Conv3d classifier of colors: the mean of each input channel decides, with slight noise by `seed`."""
    noise = np.random.default_rng(seed).standard_normal((8, 3, 3, 3, 3)).astype(np.float32) * 1e-3
    for channel in range(3):
        noise[channel, channel, 1, 1, 1] += 1.0
    head = np.zeros((8, len(LABELS)), np.float32)
    head[:3, 1:] = 10.0 * np.eye(3, dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["clip", "kernel"], ["mixed"], name="conv1", pads=[1] * 6),
        helper.make_node("Relu", ["mixed"], ["positive"], name="relu1"),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "head"], ["logits"], name="fc"),
    ]
    if bad_node:
        nodes[1] = helper.make_node("DFT", ["mixed"], ["positive"], name="spectrum", axis=2)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("clip", TensorProto.FLOAT, CLIP.input_shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, len(LABELS)))],
        [numpy_helper.from_array(noise, "kernel"), numpy_helper.from_array(head, "head")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def reference(graph: bytes, clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logits of ONNX's reference evaluator."""
    outputs: Any = ReferenceEvaluator(onnx.load_from_string(graph)).run(None, {"clip": clip})
    return np.asarray(outputs[0], np.float32)


def random_clip(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(CLIP.input_shape, dtype=np.float32)


def request(graph: bytes | None = None, **changes: Any) -> OpenRequest:
    arguments: dict[str, Any] = {
        "graph": tiny_onnx() if graph is None else graph,
        "kind": "onnx",
        "precision": "fp32",
        "input_shape": CLIP.input_shape,
        "output_size": len(LABELS),
        "threads": 1,
    }
    return OpenRequest(**{**arguments, **changes})


def tiny_native(seed: int = 0) -> tuple[bytes, bytes]:
    """Return the network of `tiny_onnx` as a native program and its tensors: 8-bit weights and activations."""
    initializers = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load_from_string(tiny_onnx(seed)).graph.initializer
    }
    kernel, input_scale = initializers["kernel"].transpose(0, 2, 3, 4, 1), 0.04
    scale = np.abs(kernel).reshape(len(kernel), -1).max(1) / 127
    tensors = [
        np.round(kernel / scale.reshape(-1, 1, 1, 1, 1)).astype(np.int8),
        scale.astype(np.float32) * np.float32(input_scale),
        np.zeros(len(kernel), np.float32),
        np.ascontiguousarray(initializers["head"].T),
        np.zeros(len(LABELS), np.float32),
    ]
    refs, data = join_tensors(tensors)
    size = (CLIP.clip_frames, *CLIP.crop)
    epilogue = Epilogue(first=0, last=8, to=0, channel=0, is_float=True, relu=True, scale=1, bias=2)
    program = Program(
        buffers=(Buffer(size=size, channels=3, zero_point=128),),
        arrays=((*size, 8), (1, 1, 1, 8), (1, 1, 1, len(LABELS))),
        tensors=refs,
        instructions=(
            Input(to=0, channels=3, size=size, block=(1, 1, 1), scale=input_scale),
            Conv(buffer=0, weights=0, stride=(1, 1, 1), padding=(1, 1, 1), out_size=size, epilogues=(epilogue,)),
            Reduce(op="mean", array=0, axes=(True, True, True, False), to=1),
            Dense(array=1, weights=3, bias=4, to=2),
        ),
        logits=2,
    )
    return program.to_json(), data


def tiny_request(backend: str, seed: int = 0) -> OpenRequest:
    """Return a request for the network of `tiny_onnx` in a form that `backend` opens."""
    if backend == "native":
        graph, weights = tiny_native(seed)
        return request(graph, kind="native-program", precision="int8", weights=weights)
    return request(tiny_onnx(seed))


@dataclass(frozen=True)
class ArtifactSpec:
    """An artifact of a test bundle."""

    name: str
    backends: tuple[str, ...]
    kind: str = "onnx"
    members: Mapping[str, tuple[Role, bytes]] = field(default_factory=dict)
    requires: Mapping[str, str] = field(default_factory=dict)


def make_bundle(
    path: Path, specs: Sequence[ArtifactSpec] = (ArtifactSpec("fp32", ("onnxruntime",)),), decide: bool = False
) -> Bundle:
    """Write a bundle with these artifacts, preferred in this order."""
    members: dict[str, tuple[Role, bytes]] = {}
    artifacts = []
    for spec in specs:
        contents = dict(spec.members) or {f"{spec.name}.onnx": ("graph", tiny_onnx())}
        members.update(contents)
        artifacts.append(
            Artifact.model_validate(
                {
                    "name": spec.name,
                    "kind": spec.kind,
                    "precision": "fp32",
                    "backends": spec.backends,
                    "members": tuple(contents),
                    "requires": dict(spec.requires),
                }
            )
        )
    draft = BundleDraft(
        model=ModelInfo(name="tiny", source="tests", parameters=1, macs=1, weights_sha256="0" * 64),
        labels=LABELS,
        clip=CLIP,
        target="intel-cpu",
        artifacts=tuple(artifacts),
        preferred=tuple(spec.name for spec in specs),
        decide_on_device=decide,
        tools={},
    )
    return write_bundle(path, draft, members)


def colored(channel: int, count: int = CLIP.clip_frames, size: tuple[int, int] = (30, 40)) -> NDArray[np.uint8]:
    """Return `count` RGB frames of the color of class `channel + 1`."""
    frames = np.zeros((count, *size, 3), np.uint8)
    frames[..., channel] = 255
    return frames
