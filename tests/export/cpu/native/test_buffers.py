"""Registry models as native programs: they compute what their INT8 graphs say, or are refused for a layer."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from edgeact.devices import load_profile
from edgeact.errors import ConversionError
from edgeact.export.cpu.native.buffers import place
from edgeact.export.cpu.native.lower import scan
from edgeact.export.graph.passes.apply import REWRITES, apply_rewrites
from edgeact.export.graph.proto import from_proto
from edgeact.export.graph.torch_to_onnx import at_opset
from edgeact.export.models.registry import MODELS
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.exclusions import skip_list
from edgeact.export.quantize.fold_weights import fold_weights
from edgeact.export.quantize.qdq import quantize
from edgeact.export.quantize.qdq_placement import integer_flow
from edgeact.runtime.native.program import Conv, Input, Pool, Program, Round
from edgeact.runtime.native.reading import read_program
from tests.export.graph.exported import random_clips, trial
from tests.export.quantize.making import as_written
from tests.runtime.native.making import NEEDS_ENGINE, run

LOWERED = {"r3d-18", "msf-r3d", "msf-r3d-fsam", "c3d", "msf-c3d", "msf-c3d-fsam", "resnet3d-18", "resnet3d-50"}
WORSE_DB = (
    2.0  # than the same graph in ONNX Runtime: sums are not rounded between, but float32 is added in another order
)


@dataclass(frozen=True)
class _Lowered:
    graph: onnx.ModelProto
    program: Program
    data: bytes


@functools.cache
def _int8(name: str) -> onnx.ModelProto:
    """The INT8 graph of a narrow registry model, as the target cpu makes it."""
    case = trial(name)
    rewritten, _ = apply_rewrites(from_proto(at_opset(case.master, 17)), REWRITES)
    graph = ir.to_proto(rewritten)
    calibrator = Calibrator(case.master, random_clips(case.model.clip, 4))
    skip = skip_list(graph, load_profile("cpu"))
    quantized = quantize(graph, calibrator.ranges_for(graph, skip), skip)
    flowing = integer_flow(quantized, calibrator.ranges, lambda tensors: calibrator.observed(graph, tensors))
    return fold_weights(flowing)


@functools.cache
def _lowered(name: str) -> _Lowered:
    graph = _int8(name)
    return _Lowered(graph, *place(*scan(graph)))


def _snr_db(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(wanted**2) / np.sum((found - wanted) ** 2)))


@NEEDS_ENGINE
@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_what_its_graph_says_or_a_layer_is_named(name: str) -> None:
    graph = _int8(name)
    if name not in LOWERED:
        with pytest.raises(ConversionError, match=r"^layer '.+': .{20,}"):
            scan(graph)
        return
    case, lowered = trial(name), _lowered(name)
    clips = random_clips(case.model.clip, 4)
    with torch.no_grad():
        wanted = np.concatenate([case.model.module(torch.from_numpy(clip)).numpy() for clip in clips])
    found = np.stack([run((lowered.program, lowered.data), clip, threads=2) for clip in clips])
    written = np.concatenate([as_written(graph, clip) for clip in clips])
    assert _snr_db(found, wanted) > _snr_db(written, wanted) - WORSE_DB
    assert _snr_db(found, wanted) > 15


@pytest.mark.parametrize("name", ["msf-r3d-fsam", "r3d-18"])
def test_a_program_is_the_same_every_time_and_reads_back(name: str) -> None:
    lowered = _lowered(name)
    again, data = place(*scan(lowered.graph))
    assert (again, data) == (lowered.program, lowered.data)
    program, tensors = read_program(again.model_dump_json().encode(), data)
    assert program == again
    assert len(tensors) == len(program.tensors)


def _only_vectors_are_rounded(program: Program) -> None:
    """Those that the classifier reads."""
    rounded = [program.arrays[step.array] for step in program.steps if isinstance(step, Round)]
    assert all(size[:3] == (1, 1, 1) for size in rounded)


def test_a_stem_reads_blocks_of_the_clip() -> None:
    """Space to depth is part of the rounding: one step, no transposition."""
    first, second, *_ = _lowered("r3d-18").program.steps
    assert isinstance(first, Input)
    assert isinstance(second, Conv)
    assert first.block == (1, 2, 2)
    assert second.features == first.to


def test_residual_networks_have_no_steps_but_their_convolutions() -> None:
    """Sums, ReLUs and roundings are part of the stores; pooling and the classifier stay."""
    program, graph = _lowered("r3d-18").program, _lowered("r3d-18").graph
    convolutions = [step for step in program.steps if isinstance(step, Conv)]
    assert len(convolutions) == sum(node.op_type == "Conv" for node in graph.graph.node)
    sums = sum(node.op_type == "Add" for node in graph.graph.node)
    assert sum(bool(store.summands or store.onto) for step in convolutions for store in step.stores) >= sums > 0
    assert {step.kind for step in program.steps} <= {"input", "conv", "reduce", "dense", "restore", "unary", "round"}
    _only_vectors_are_rounded(program)


def test_splits_and_joins_of_msl_are_no_steps() -> None:
    program, graph = _lowered("msf-r3d").program, _lowered("msf-r3d").graph
    assert {"Split", "Concat"} <= {node.op_type for node in graph.graph.node}
    assert not {step.kind for step in program.steps} & {"binary", "small-conv"}
    _only_vectors_are_rounded(program)


def test_msl_adds_in_turn_and_hands_on_what_identities_carry() -> None:
    lowered = _lowered("msf-r3d")
    stores = [store for step in lowered.program.steps if isinstance(step, Conv) for store in step.stores]
    assert any(store.onto for store in stores)
    computed = sum(ref.shape[0] for ref in lowered.program.tensors if ref.dtype == "int8")
    constants = {one.name: one.dims for one in lowered.graph.graph.initializer}
    producers = {node.output[0]: node for node in lowered.graph.graph.node}
    written = sum(
        constants[producers[node.input[1]].input[0]][0] for node in lowered.graph.graph.node if node.op_type == "Conv"
    )
    assert computed < written  # identity rows are read where they lie


def test_pools_of_c3d_are_in_8_bits() -> None:
    lowered = _lowered("c3d")
    pools = [step for step in lowered.program.steps if isinstance(step, Pool)]
    assert len(pools) == sum(node.op_type == "MaxPool" for node in lowered.graph.graph.node) > 0
