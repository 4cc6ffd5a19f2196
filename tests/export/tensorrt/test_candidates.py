"""Every board in every precision, by the real quantizer, linter, parser and compiler; equal graphs are built once."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from edgeact.bundle.manifest import Role
from edgeact.devices import DeviceProfile, list_profiles, load_profile
from edgeact.errors import ConversionError
from edgeact.export.build.data import ExportData
from edgeact.export.build.measure import Meter
from edgeact.export.build.recipe import PRECISIONS, PrecisionChoice
from edgeact.export.candidates.candidate import BuildInputs, Candidate
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.values import constant_array, name_of, operand
from edgeact.export.models.loading import LoadedModel
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.qdq import quantize
from edgeact.export.tensorrt import candidates as tensorrt
from edgeact.export.tensorrt.rtx_compiler import check_and_build, supported_sms
from edgeact.layer_reasons import RefusedByTensorRt
from edgeact.reasons import Decision, EngineNotBuilt, Int8Omitted
from tests.export.emitting import emitted
from tests.messages import names

GPUS = [name for name in list_profiles() if load_profile(name).family != "cpu"]
_MADE: dict[str, Any] = {}
Make = Callable[..., tuple[tuple[Candidate, ...], tuple[Decision, ...]]]


def _once(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return `make` with results cached by graph: boards share most of their graphs."""

    @functools.wraps(make)
    def made(model: Any, *rest: Any, **options: Any) -> Any:
        data = model if isinstance(model, bytes) else to_bytes(model)
        settings = [item for item in rest if isinstance(item, (str, dict))]  # the clips are always the same
        key = f"{make.__name__} {hashlib.sha256(data).hexdigest()} {settings} {options}"
        if key not in _MADE:
            _MADE[key] = make(model, *rest, **options)
        return _MADE[key]

    return made


@pytest.fixture(autouse=True)
def _each_graph_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "check_and_build", _once(check_and_build))
    monkeypatch.setattr(tensorrt, "quantize", _once(quantize))


@pytest.fixture
def make(colours: LoadedModel, colour_data: ExportData, colour_master: ir.Model) -> Make:
    """Return the candidates of a profile in a precision, and the decisions."""
    clips = colour_data.calibration.inputs[:8]

    def candidates(
        profile: DeviceProfile, precision: PrecisionChoice, master: ir.Model = colour_master
    ) -> tuple[tuple[Candidate, ...], tuple[Decision, ...]]:
        inputs = BuildInputs(
            master=master,
            clip=colours.clip,
            profile=profile,
            samples=clips,
            calibrator=Calibrator(master, clips),
            precisions=PRECISIONS[precision],
        )
        return emitted(inputs)

    return candidates


def _member(candidate: Candidate, role: Role) -> bytes:
    data = candidate.member(role)
    assert data is not None
    return data


def _graphs(candidates: Sequence[Candidate]) -> list[tuple[Candidate, onnx.ModelProto, dict[str, Any]]]:
    """Return the candidates with a TensorRT recipe."""
    return [
        (candidate, onnx.load_from_string(_member(candidate, "graph")), json.loads(_member(candidate, "recipe")))
        for candidate in candidates
        if candidate.member("recipe")
    ]


def _float_types(model: onnx.ModelProto) -> set[int]:
    """Return the types of the weights of convolutions that are not quantized."""
    return {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 5} - {TensorProto.INT8}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["auto", "fp32", "fp16", "int8"])
@pytest.mark.parametrize("board", GPUS)
def test_every_board_gets_what_its_releases_take(board: str, precision: PrecisionChoice, make: Make) -> None:
    profile = load_profile(board)
    if precision == "fp32" and profile.sm == "7.5":
        with pytest.raises(
            ConversionError, check=names("no FP32 3-D convolution for SM 7.5", "give it the FP16 graph")
        ):
            make(profile, precision)
        return
    candidates, decisions = make(profile, precision)
    expected = {"auto": {"int8", "fp16", "fp32"}, "fp32": {"fp32"}, "fp16": {"fp16"}, "int8": {"int8"}}[precision]
    if not profile.supports_int8:
        expected -= {"int8"}
        if "int8" in PRECISIONS[precision]:
            assert Int8Omitted(cause="target-has-none", target=profile.title) in decisions
    assert {candidate.precision for candidate in candidates} == expected
    assert ("onnx-fp32" in [candidate.name for candidate in candidates]) == ("fp32" in expected)
    _check_graphs(profile, candidates, expected - {"fp32"} or expected)
    _check_engines(profile, candidates, decisions)


def _check_graphs(profile: DeviceProfile, candidates: Sequence[Candidate], precisions: set[str]) -> None:
    """Every release has one graph per precision, of a typing that its parser reads."""
    dialects = {dialect.name: dialect for dialect in profile.tensorrt}
    served: list[tuple[str, str]] = []
    for candidate, model, recipe in _graphs(candidates):
        opset = model.opset_import[0].version
        assert (recipe["board"], recipe["precision"], recipe["opset"]) == (
            profile.id,
            candidate.precision,
            opset,
        )
        half = TensorProto.FLOAT16 in _float_types(model)
        if recipe["typing"] == "weak" or candidate.precision == "fp32":
            assert not half
        elif candidate.precision == "fp16":
            assert half
        for release in recipe["releases"]:
            dialect = dialects[release["name"]]
            served.append((release["name"], candidate.precision))
            assert opset <= (dialect.max_opset or 20)
            assert recipe["typing"] == "weak" or candidate.precision != "fp16" or opset <= dialect.opset
            assert dialect.typing in (recipe["typing"], "either")
            script = candidate.members[f"tensorrt/{candidate.name}.{release['name']}.sh"][1].decode()
            assert f"want={dialect.version}" in script
            assert ("--int8" in script) == (candidate.precision == "int8" and recipe["typing"] == "weak")
    expected = [
        (name, precision)
        for name, dialect in dialects.items()
        for precision in precisions
        if dialect.product == "tensorrt" and (precision != "int8" or dialect.qdq)
    ]
    assert sorted(served) == sorted(expected)


def _check_engines(profile: DeviceProfile, candidates: Sequence[Candidate], decisions: Sequence[Decision]) -> None:
    engines = [candidate for candidate in candidates if candidate.artifact.is_engine]
    not_built = EngineNotBuilt(sm=str(profile.sm))
    if profile.family == "jetson":
        assert not engines
    elif profile.sm not in supported_sms():
        assert not engines
        assert not_built in decisions
    else:
        assert not_built not in decisions
        graphs = {candidate.name: candidate for candidate, _, _ in _graphs(candidates)}
        assert [engine.judged.name for engine in engines] == list(graphs)
        for engine in engines:
            assert engine.artifact.requires["sm"] == profile.sm
            assert engine.checked_by is None
            assert engine.artifact.precision == graphs[engine.judged.name].precision


@pytest.mark.parametrize("board", ["nano", "tx2"])
def test_boards_of_the_first_generation_have_no_int8_at_all(board: str, make: Make) -> None:
    candidates, decisions = make(load_profile(board), "int8")
    assert candidates == ()
    assert [type(decision) for decision in decisions] == [Int8Omitted]


def test_a_release_without_kernels_for_narrow_int8_layers_gets_them_in_float(make: Make) -> None:
    for board, floats in (("xavier-nx", 1), ("orin-nano-8gb", 0)):
        candidates, _ = make(load_profile(board), "int8")
        reasons = [reason for reason in candidates[0].float_layers.values() if isinstance(reason, RefusedByTensorRt)]
        assert [(reason.release, reason.rule) for reason in reasons] == [("jetpack-4.6", "small-channels")] * floats


def test_turing_gets_engines_from_fp16_graphs(make: Make) -> None:
    candidates, _ = make(load_profile("t4"), "auto")
    engines = [candidate.artifact for candidate in candidates if candidate.artifact.is_engine]
    assert [engine.precision for engine in engines] == ["int8", "fp16"]
    for candidate, model, _ in _graphs(candidates):
        assert not candidate.artifact.float_layers, candidate.name
        assert TensorProto.FLOAT not in _float_types(model)


def test_an_engine_is_the_check_itself(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[str] = []

    def counted(data: bytes, sm: str, **options: bool) -> Any:
        builds.append(hashlib.sha256(data).hexdigest())
        return _once(check_and_build)(data, sm, **options)

    monkeypatch.setattr(tensorrt, "check_and_build", counted)
    candidates, _ = make(load_profile("rtx-4090"), "auto")
    assert len(builds) == len(set(builds)) == 2
    assert sum(candidate.artifact.is_engine for candidate in candidates) == 2


def test_a_weak_graph_is_checked_as_the_half_precision_it_becomes(make: Make) -> None:
    candidates, _ = make(load_profile("orin-nano-8gb"), "fp16")
    (candidate,) = candidates
    assert candidate.checked_graph is not None
    assert TensorProto.FLOAT16 in _float_types(onnx.load_from_string(candidate.checked_graph))
    assert "largest activation" in candidate.artifact.note


def _loud(master: ir.Model) -> tuple[ir.Model, str]:
    """Return the network with a scaled convolution whose output overflows in FP16, and that convolution's name."""
    loud = master.clone()
    conv = [node for node in loud.graph if node.op_type == "Conv"][1]
    weight = operand(conv, 1)
    array = constant_array(weight)
    assert array is not None
    weight.const_value = ir.tensor(array * np.float32(1e6))
    return loud, name_of(conv)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_layers_that_overflow_fp16_are_held_in_fp32_by_the_recipe(
    precision: str, make: Make, colour_master: ir.Model
) -> None:
    loud, name = _loud(colour_master)
    (calm,), _ = make(load_profile("orin-nano-8gb"), precision)
    (candidate,), _ = make(load_profile("orin-nano-8gb"), precision, loud)
    fp32_layers = json.loads(_member(candidate, "recipe"))["fp32_layers"]
    assert name in fp32_layers
    assert name not in json.loads(_member(calm, "recipe"))["fp32_layers"]
    model = onnx.load_from_string(_member(candidate, "graph"))
    operators = {node.name: node.op_type for node in model.graph.node}
    assert not {operators[layer] for layer in fp32_layers} & {"QuantizeLinear", "DequantizeLinear"}
    assert set(fp32_layers) <= set(candidate.float_layers)
    script = candidate.members[f"tensorrt/{candidate.name}.jetpack-6.2.sh"][1].decode()
    assert "--precisionConstraints=obey" in script
    assert f"{name}:fp32" in script


def test_a_board_that_cannot_hold_layers_in_fp32_says_so(make: Make, colour_master: ir.Model) -> None:
    with pytest.raises(ConversionError, check=names("Jetson Nano", "must not be in FP16: use fp32")):
        make(load_profile("nano"), "fp16", _loud(colour_master)[0])


def test_the_runtime_is_reported_which_releases_take_a_graph(make: Make) -> None:
    def asked(board: str) -> dict[str, Mapping[str, str]]:
        candidates, _ = make(load_profile(board), "fp16")
        return {candidate.name: candidate.artifact.requires for candidate in candidates if candidate.checked_by}

    assert asked("agx-orin-32gb") == {"trt-fp16": {"tensorrt": "<11"}, "trt-fp16-strong": {"tensorrt": ">=11"}}
    assert asked("a100-40gb") == {"trt-fp16-strong": {"tensorrt": ">=10"}}
    assert asked("rtx-4090") == {"trt-fp16-strong": {}}


@pytest.mark.parametrize("board", ["agx-orin-32gb", "rtx-4090"])
def test_every_graph_agrees_with_pytorch(board: str, make: Make, colours: LoadedModel, colour_data: ExportData) -> None:
    """The strongly typed INT8 graph too, whose biases ONNX Runtime's optimizer computes wrongly."""
    candidates, _ = make(load_profile(board), "auto")
    compared = Meter(colours, colour_data, 1).compare(candidates)
    assert [each.name for each in compared if each.run_error or not each.agrees] == []


def test_sizes_count_what_a_device_opens(make: Make) -> None:
    candidates, _ = make(load_profile("orin-nano-8gb"), "fp16")
    assert candidates[0].size_bytes == len(_member(candidates[0], "graph"))
