"""Registry models as native programs: they compute what their INT8 graphs do, or a reason names the layer."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest
import torch

from edgeact.devices import load_profile
from edgeact.export.cpu.native.compiler import compile_model
from edgeact.export.cpu.native.refusals import NotLoweredError
from edgeact.export.graph.passes.apply import REWRITES, apply_rewrites
from edgeact.export.graph.torch_to_onnx import at_opset
from edgeact.export.graph.values import weight_dims
from edgeact.export.models.registry import MODELS
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.exclusions import target_exclusions
from edgeact.export.quantize.fold_weights import fold_weights
from edgeact.export.quantize.qdq import quantize
from edgeact.export.quantize.qdq_placement import place_qdq
from edgeact.runtime.native.program import Conv, Input, Pool, Program, Quantize
from edgeact.runtime.native.reading import read_program
from tests.export.graph.exported import random_clips, trial
from tests.export.quantize.making import as_written
from tests.runtime.native.making import NEEDS_ENGINE, run

NOT_LOWERED = {
    "se-sa-resnet18": "tensor-shape",
    "se-sa-resnext101": "tensor-shape",
    "3drfnet-18": "operator",
    "3drfnet-50": "operator",
}
MAX_LOSS_DB = 2.0
"""Against the same graph in ONNX Runtime: sums are not quantized in between, but float32 is added in another order."""


@dataclass(frozen=True)
class _Compiled:
    graph: ir.Model
    program: Program
    tensors: bytes


@functools.cache
def _int8(name: str) -> ir.Model:
    """Return the INT8 graph of a narrow registry model, as the export for target cpu makes it."""
    case = trial(name)
    graph, _ = apply_rewrites(at_opset(case.master, 17), REWRITES)
    calibrator = Calibrator(case.master, random_clips(case.model.clip, 4))
    excluded = target_exclusions(graph, load_profile("cpu"))
    quantized = quantize(graph, calibrator.ranges_for(graph, excluded), excluded)
    flowing = place_qdq(quantized, calibrator.ranges, lambda tensors: calibrator.observed(graph, tensors))
    return fold_weights(flowing)


@functools.cache
def _compiled(name: str) -> _Compiled:
    graph = _int8(name)
    return _Compiled(graph, *compile_model(graph))


def _snr_db(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(expected**2) / np.sum((actual - expected) ** 2)))


@pytest.mark.slow
@NEEDS_ENGINE
@pytest.mark.parametrize("name", sorted(set(MODELS) - NOT_LOWERED.keys()))
def test_a_program_is_as_accurate_as_its_graph(name: str) -> None:
    case, compiled = trial(name), _compiled(name)
    clips = random_clips(case.model.clip, 4)
    with torch.no_grad():
        expected = np.concatenate([case.model.module(torch.from_numpy(clip)).numpy() for clip in clips])
    actual = np.stack([run((compiled.program, compiled.tensors), clip, threads=2) for clip in clips])
    reference = np.concatenate([as_written(compiled.graph, clip) for clip in clips])
    assert _snr_db(actual, expected) > _snr_db(reference, expected) - MAX_LOSS_DB
    assert _snr_db(actual, expected) > 15


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NOT_LOWERED))
def test_a_model_that_is_not_lowered_names_layer_and_requirement(name: str) -> None:
    graph = _int8(name)
    with pytest.raises(NotLoweredError) as caught:
        compile_model(graph)
    reason = caught.value.reason
    assert reason.requirement == NOT_LOWERED[name]
    assert (reason.layer, reason.operator) in {(node.name, node.op_type) for node in graph.graph}


@pytest.mark.parametrize("name", ["msf-r3d-fsam", "r3d-18"])
def test_a_program_is_reproducible_and_reads_back(name: str) -> None:
    compiled = _compiled(name)
    program, data = compile_model(compiled.graph)
    assert (program, data) == (compiled.program, compiled.tensors)
    read, tensors = read_program(program.to_json(), data)
    assert read == program
    assert len(tensors) == len(program.tensors)


def _assert_only_vectors_are_quantized(program: Program) -> None:
    """Only the vectors that the classifier reads are quantized by an instruction of their own."""
    quantized = [program.arrays[each.array] for each in program.instructions if isinstance(each, Quantize)]
    assert all(size[:3] == (1, 1, 1) for size in quantized)


def test_space_to_depth_is_part_of_the_input() -> None:
    first, second, *_ = _compiled("r3d-18").program.instructions
    assert isinstance(first, Input)
    assert isinstance(second, Conv)
    assert first.block == (1, 2, 2)
    assert second.buffer == first.to


def test_residual_blocks_are_fused_into_their_convolutions() -> None:
    """Additions, ReLUs and quantization are part of the epilogues; pooling and the classifier remain."""
    program, graph = _compiled("r3d-18").program, _compiled("r3d-18").graph
    convs = [each for each in program.instructions if isinstance(each, Conv)]
    assert len(convs) == sum(node.op_type == "Conv" for node in graph.graph)
    adds = sum(node.op_type == "Add" for node in graph.graph)
    assert sum(bool(each.summands or each.accumulate) for conv in convs for each in conv.epilogues) >= adds > 0
    kinds = {each.kind for each in program.instructions}
    assert kinds <= {"input", "conv", "reduce", "dense", "restore", "unary", "round"}
    _assert_only_vectors_are_quantized(program)


def test_split_and_concat_of_msl_need_no_instructions() -> None:
    program, graph = _compiled("msf-r3d").program, _compiled("msf-r3d").graph
    assert {"Split", "Concat"} <= {node.op_type for node in graph.graph}
    assert not {each.kind for each in program.instructions} & {"binary", "small-conv"}
    _assert_only_vectors_are_quantized(program)


def test_msl_accumulates_and_skips_identity_filters() -> None:
    compiled = _compiled("msf-r3d")
    convs = [each for each in compiled.program.instructions if isinstance(each, Conv)]
    assert any(epilogue.accumulate for conv in convs for epilogue in conv.epilogues)
    computed = sum(ref.shape[0] for ref in compiled.program.tensors if ref.dtype == "int8")
    nodes = [node for node in compiled.graph.graph if node.op_type == "Conv"]
    assert computed < sum((weight_dims(node) or (0,))[0] for node in nodes)


def test_every_tensor_is_used() -> None:
    program = _compiled("msf-r3d-fsam").program
    used = set(program.constants.values())
    for each in program.instructions:
        used |= {getattr(each, name) for name in ("weights", "bias") if hasattr(each, name)}
        if isinstance(each, Conv):
            used |= {index for epilogue in each.epilogues for index in (epilogue.scale, epilogue.bias)}
    assert used == set(range(len(program.tensors)))


def test_pools_of_c3d_are_in_int8() -> None:
    compiled = _compiled("c3d")
    pools = [each for each in compiled.program.instructions if isinstance(each, Pool)]
    assert len(pools) == sum(node.op_type == "MaxPool" for node in compiled.graph.graph) > 0
