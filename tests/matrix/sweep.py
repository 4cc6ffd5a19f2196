"""The export matrix: every model on every runtime and TensorRT release in every precision, by the stages of a build.

Models are untrained, with settled norms, and clips are made up: a cell says whether a model can be exported, whether
the artifact runs, and by how much its logits differ from PyTorch's; nothing here is an accuracy. TensorRT's cells are
what the linter, the real parser and the compiler of TensorRT for RTX say, with the agreement of the graph they were
given, run in ONNX Runtime.
"""

from __future__ import annotations

import functools
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir
from pydantic import Field
from torch import nn

from edgeact.bundle import Calibration
from edgeact.calibration.clips import ClipSample
from edgeact.clip import ClipSpec
from edgeact.devices import DeviceProfile, TensorRtDialect, load_profile
from edgeact.errors import EdgeactError
from edgeact.export.build.data import ExportData
from edgeact.export.build.pipeline import build, through
from edgeact.export.build.recipe import Recipe
from edgeact.export.build.state import Build, Inputs, Lowered, Model
from edgeact.export.candidates.candidate import BuildInputs, Candidate
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.attention.registry import ATTENTIONS
from edgeact.export.models.cost import Cost, measure_cost
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from edgeact.export.models.registry import MODELS
from edgeact.export.models.synthetic import synthetic_clips
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.qdq import describe
from edgeact.export.tensorrt.rtx_compiler import check_and_build
from edgeact.precision import Precision
from edgeact.records import Parity, Record

__all__ = [
    "BOARDS",
    "PRECISIONS",
    "Cell",
    "Size",
    "Trial",
    "matrix_models",
    "prepare",
    "runtimes",
    "try_board",
    "try_model",
]

BOARDS = ("cpu", "rtx-3090", "rtx-4090", "rtx-5090", "agx-orin-64gb")
"""Between them: ONNX Runtime and OpenVINO; SM 8.6, 8.9 and 12.0; every TensorRT of Jetson Orin from 8.4 to 11.4."""
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

_CALIBRATION_CLIPS = 8
_PARITY_CLIPS = 4
_BACKBONE = "cnn3d"  # of attention modules that no row of the registry has

Outcome = Literal["agrees", "disagrees", "hole"]
Convert = Callable[[nn.Module, ClipSpec], ir.Model]


class Cell(Record):
    """One model on one runtime in one precision."""

    runtime: str = Field(description="'onnxruntime', 'openvino', 'tensorrt-rtx SM 8.9', 'tensorrt 8.5'")
    precision: Precision
    outcome: Outcome
    parity: Parity | None = Field(default=None, description="of the artifact, or of the graph an engine is built from")
    reason: str = Field(default="", description="of a hole: what the tool said that refused it")
    float_layers: dict[str, int] = Field(default_factory=dict, description="why layers stay in float -> how many")
    size_bytes: int = Field(default=0, ge=0)
    seconds: float = Field(ge=0, description="conversion and comparison, for all runtimes of the board together")


@dataclass(frozen=True)
class Size:
    """How large a model is tried; None is the size its paper has."""

    width: int | None = None
    clip_frames: int | None = None
    size: int | None = None
    classes: int = 101


@dataclass(frozen=True)
class Trial:
    """A model with its graph and made-up clips, ready to be tried on boards."""

    model: LoadedModel
    master: ir.Model
    data: ExportData
    threads: int

    @functools.cached_property
    def cost(self) -> Cost:
        """The multiply-accumulates and parameters of the model."""
        return measure_cost(self.model.module, self.model.clip.input_shape)

    @functools.cached_property
    def calibrator(self) -> Calibrator:
        """The calibrator of all boards, which observes the ranges of `master` once."""
        return Calibrator(self.master, self.data.calibration.inputs)


def matrix_models() -> tuple[str, ...]:
    """Every row of the registry, and a small backbone with each attention module that no row has."""
    used = {spec.formula.attention.name for spec in MODELS.values() if spec.formula.attention}
    return (*MODELS, *(f"{_BACKBONE}+{name}" for name in ATTENTIONS if name not in used))


def runtimes(boards: Sequence[str] = BOARDS) -> tuple[str, ...]:
    """The columns of the matrix that these boards fill, in their order."""
    columns = [name for board in boards for name in _runtimes_of(load_profile(board))]
    return tuple(dict.fromkeys(columns))


def prepare(name: str, size: Size, threads: int, convert: Convert | None = None) -> Trial:
    """Build the model with random weights and convert it to ONNX by `convert`, by default `to_onnx`.

    Raises ConversionError if the model cannot be converted.
    """
    labels = tuple(f"class {index}" for index in range(size.classes))
    request = LoadRequest(
        labels=labels, width=size.width, clip_frames=size.clip_frames, size=size.size, random_weights=True
    )
    model = load_model(name, request)
    return Trial(model, (convert or to_onnx)(model.module, model.clip), _made_up_data(model.clip, labels), threads)


def try_model(
    name: str, size: Size, threads: int, on_step: Callable[[str], None], boards: Sequence[str] = BOARDS
) -> list[Cell]:
    """A line of the matrix, in the order of `runtimes` and `PRECISIONS`; `on_step(title)` before every part."""
    start = time.perf_counter()
    on_step("ONNX")
    try:
        trial = prepare(name, size, threads)
    except EdgeactError as error:
        return [_hole(runtime, one, str(error), start) for runtime in runtimes(boards) for one in PRECISIONS]
    cells = []
    for profiles in _alike(boards):
        for precision in PRECISIONS:
            on_step(f"{', '.join(profile.id for profile in profiles)}, {precision}")
            cells += _try_profiles(trial, profiles, precision)
    columns = runtimes()
    return sorted(_merged(cells), key=lambda cell: (columns.index(cell.runtime), PRECISIONS.index(cell.precision)))


def try_board(trial: Trial, board: str, precision: Precision) -> list[Cell]:
    """Export for one board in one precision and compare; a refusal becomes a hole with the message of the tool."""
    return _try_profiles(trial, [load_profile(board)], precision)


def _alike(boards: Sequence[str]) -> list[list[DeviceProfile]]:
    """Return neighbors that get the same graphs together: desktop GPUs of the same TensorRT releases."""
    profiles = [load_profile(board) for board in boards]

    def graphs(profile: DeviceProfile) -> tuple[object, ...]:
        return (profile.tensorrt, profile.supports_int8) if profile.family == "desktop" else (profile.id,)

    return [list(group) for _, group in itertools.groupby(profiles, graphs)]


def _try_profiles(trial: Trial, profiles: Sequence[DeviceProfile], precision: Precision) -> list[Cell]:
    """The first profile's cells, and those of the others, whose engines are compiled of the same graph."""
    profile, *others = profiles
    start = time.perf_counter()
    try:
        checked = build(_lowered(trial, profile, precision), ("quantize", "emit", "check"))
    except EdgeactError as error:
        if profile.family == "jetson" and len(profile.tensorrt) > 1:  # let no release answer for another's refusal
            alone = (profile.model_copy(update={"tensorrt": (dialect,)}) for dialect in profile.tensorrt)
            return _merged(cell for one in alone for cell in _try_profiles(trial, [one], precision))
        holes = [_hole(runtime, precision, str(error), start) for runtime in _runtimes_of(profile)]
        return [*holes, *(cell for other in others for cell in _try_profiles(trial, [other], precision))]
    cells = [
        _cell(runtime, candidate, start)
        for candidate in checked.candidates
        for runtime in _served(candidate, profile, precision)
    ]
    engines = [cell for cell in cells if cell.runtime in _runtimes_of(profile)]
    return _merged([*cells, *(_compiled(cell, checked.candidates, other) for cell in engines for other in others)])


def _compiled(cell: Cell, candidates: Sequence[Candidate], profile: DeviceProfile) -> Cell:
    """The cell of a GPU that gets the graph of `cell`'s: the same agreement, if its compiler takes it."""
    start, (runtime,) = time.perf_counter(), _runtimes_of(profile)
    graph = next(candidate for candidate in candidates if candidate.artifact.is_engine).judged
    try:
        build = check_and_build(graph.member("graph") or b"", str(profile.sm), allow_tf32=cell.precision != "fp32")
    except EdgeactError as error:
        return _hole(runtime, cell.precision, str(error), start)
    seconds = round(time.perf_counter() - start, 1)
    return cell.model_copy(update={"runtime": runtime, "size_bytes": len(build.engine), "seconds": seconds})


def _made_up_data(clip: ClipSpec, labels: tuple[str, ...]) -> ExportData:
    clips = synthetic_clips(clip, _CALIBRATION_CLIPS + _PARITY_CLIPS, seed=1)
    provenance = Calibration(
        dataset="made up",
        split="none",
        data_digest="0" * 64,
        clips=_CALIBRATION_CLIPS,
        videos=0,
        classes=0,
        method=describe("minmax"),
        seed=1,
        synthetic=True,
    )
    calibration, parity = clips[:_CALIBRATION_CLIPS], clips[_CALIBRATION_CLIPS:]
    return ExportData(ClipSample(tuple(calibration), ()), provenance, ClipSample(tuple(parity), ()), (), labels, None)


def _lowered(trial: Trial, profile: DeviceProfile, precision: Precision) -> Build:
    """Return the build up to 'calibrate': all boards and precisions share the model, its clips, graph and ranges."""
    inputs = BuildInputs(
        master=trial.master,
        clip=trial.model.clip,
        profile=profile,
        samples=trial.data.calibration.inputs,
        calibrator=trial.calibrator,
        precisions=(precision,),
    )
    return Build(
        Recipe(target=profile.id, source=trial.model.name, precision=precision, threads=trial.threads),
        stages=through("calibrate"),
        maybe_inputs=Inputs(trial.model, trial.data, profile),
        maybe_model=Model(trial.model),
        maybe_lowered=Lowered(inputs, trial.cost),
    )


def _runtimes_of(profile: DeviceProfile) -> list[str]:
    if profile.family == "cpu":
        return ["onnxruntime", "openvino"]
    if profile.family == "desktop":
        return [f"tensorrt-rtx SM {profile.sm}"]
    return list(dict.fromkeys(_release(dialect) for dialect in reversed(profile.tensorrt)))


def _release(dialect: TensorRtDialect) -> str:
    return f"tensorrt {dialect.version.rpartition('.')[0]}"


def _served(candidate: Candidate, profile: DeviceProfile, precision: Precision) -> Sequence[str]:
    """The columns a candidate is for; a desktop's FP16 graph is also what ONNX Runtime is tried with in FP16."""
    kind, recipe = candidate.artifact.kind, candidate.member("recipe")
    if profile.family == "cpu":  # the native engine takes some models only, and they are tested by themselves
        return [name for name in candidate.artifact.backends if name in _runtimes_of(profile)]
    if profile.family == "desktop":
        if kind == "tensorrt-rtx-engine":
            return (f"tensorrt-rtx SM {profile.sm}",)
        return ("onnxruntime",) if precision == "fp16" else ()
    if recipe is None:
        return ()
    named = {release["name"] for release in json.loads(recipe)["releases"]}
    return [_release(dialect) for dialect in profile.tensorrt if dialect.name in named]


def _cell(runtime: str, candidate: Candidate, start: float) -> Cell:
    artifact, judged = candidate.artifact, candidate.judged
    if judged.run_error:
        return _hole(runtime, artifact.precision, judged.run_error, start)
    return Cell(
        runtime=runtime,
        precision=artifact.precision,
        outcome="agrees" if candidate.agrees else "disagrees",
        parity=judged.parity,
        float_layers=Counter(artifact.float_layers.values()),
        size_bytes=candidate.size_bytes,
        seconds=round(time.perf_counter() - start, 1),
    )


def _hole(runtime: str, precision: Precision, reason: str, start: float) -> Cell:
    seconds = round(time.perf_counter() - start, 1)
    return Cell(runtime=runtime, precision=precision, outcome="hole", reason=reason, seconds=seconds)


def _merged(cells: Iterable[Cell]) -> list[Cell]:
    """One cell a column and precision; of several (two releases of one version, a graph on two boards) the worst."""
    order: tuple[Outcome, ...] = ("hole", "disagrees", "agrees")
    merged: dict[tuple[str, Precision], Cell] = {}
    for cell in sorted(cells, key=lambda cell: order.index(cell.outcome)):
        merged.setdefault((cell.runtime, cell.precision), cell)
    return list(merged.values())
