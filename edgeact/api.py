"""The front door of the library: export a model, evaluate, time and describe a bundle, in one call each.

    bundle = edgeact.export(my_module, "jetson", data="folder:/clips", labels=LABELS, clip_frames=16, size=112)
    print(edgeact.evaluate(bundle, "folder:/clips").accuracy)

Options have the names and the defaults of the command line. Nothing heavy is imported before a function is called.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from edgeact.errors import UsageError
from edgeact.progress import Callbacks, OnStep
from edgeact.storage import write_text

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Unpack

    from edgeact.bundle import Bundle
    from edgeact.calibration.range_methods import MethodName
    from edgeact.clip import ClipSpec
    from edgeact.export.build import DataPlan
    from edgeact.export.build.compression import Compression
    from edgeact.export.models.loading import LoadRequest
    from edgeact.records import AccuracyRecord, LatencyRecord
    from edgeact.report import Report

__all__ = ["ArtifactOptions", "ExportOptions", "SessionOptions", "benchmark", "evaluate", "export", "report"]

PathLike = str | os.PathLike[str]


class ExportOptions(TypedDict, total=False):
    """Options of `export`, named as those of `edgeact export`."""

    weights: PathLike
    """Weights file, `.safetensors` or a `.pt`/`.pth` state dict."""
    random_weights: bool
    """Whether to use random weights, to try the conversion only."""
    labels: Sequence[str]
    """Class labels in the order of the logits."""
    width: int
    """Channels of the first stage of a registry model."""
    clip: ClipSpec
    """The whole clip contract; the options below replace single values of it."""
    clip_frames: int
    """Frames per clip."""
    size: int
    """Height and width of the input, pixels."""
    fps: float
    """Frame rate that a clip is sampled at, frames per second."""
    resize: tuple[int, int]
    """(height, width) that frames are resized to before the crop, pixels."""
    mean: tuple[float, float, float]
    """Mean per channel of pixels scaled to 0..1."""
    std: tuple[float, float, float]
    """Standard deviation per channel of pixels scaled to 0..1."""
    channel_order: Literal["rgb", "bgr"]
    """Channel order of the model's input, of `mean` and of `std`."""
    clips: int
    """Number of calibration clips."""
    videos: int
    """Number of videos to measure accuracy on."""
    method: MethodName
    """How the INT8 range of an activation is computed from its values."""
    accept_poor_calibration: bool
    """Whether to continue with too few or with random clips."""
    seed: int
    """Random seed of sampling, training and random weights."""
    sensitivity: bool
    """Whether to record the sensitivity of every layer to INT8 in any case."""
    float_modules: Sequence[str]
    """Modules of the model whose layers are kept in float."""
    max_drop: float
    """Largest accepted accuracy drop, percentage points of top-1."""
    threads: int
    """CPU threads to measure latency with."""
    prune: float
    """Share of the channels to prune, within [0, 1)."""
    prune_layer: Mapping[str, float]
    """Ratio by name pattern of the layers, e.g. `{"stages.3.*": 0.7}`; the first match wins."""
    importance: Literal["l2", "taylor", "bn-scale"]
    """Importance criterion; the least important channels are pruned."""
    prune_scope: Literal["layer", "global"]
    """Whether the ratio applies to every layer, or globally to all channels together."""
    prune_steps: int
    """Number of pruning steps, each followed by fine-tuning."""
    prune_multiple: int
    """Multiple that channel counts are kept at."""
    finetune: str
    """Data set to fine-tune the pruned model on, with the unpruned model as the teacher."""
    epochs: int
    """Fine-tuning epochs per pruning step."""
    lr: float
    """Peak learning rate of fine-tuning."""
    distill_temperature: float
    """Distillation temperature, which softens the logits of teacher and student."""
    distill_features: float
    """Weight of the attention-transfer loss on the last feature map."""
    callbacks: Callbacks
    """Callbacks for progress, notes and events."""


class ArtifactOptions(TypedDict, total=False):
    """Options that say which artifact of a bundle runs, and how."""

    artifact: str
    """Name of an artifact; default: the bundle's first that runs here."""
    backend: str
    """Inference backend; default: the artifact's first."""
    threads: int
    """CPU threads; default: the backend's choice."""
    trust_engines: bool
    """Whether to open engines, which are executable code, that this user did not build on this machine."""
    check: Literal["auto", "always", "never"]
    """When the artifact is checked by the golden clip: once for each machine, backend and version, always, or never."""


class SessionOptions(ArtifactOptions, total=False):
    """Options of `benchmark`."""

    device: str
    """Device of the backend, e.g. 'CPU', 'GPU', 'CUDA:0'; default: the best one."""


def export(
    model: str | nn.Module | None = None,
    target: str = "cpu",
    *,
    data: str | None = None,
    precision: Literal["auto", "fp32", "fp16", "mixed", "int8"] = "auto",
    out: PathLike | None = None,
    **options: Unpack[ExportOptions],
) -> Bundle:
    """Convert a model for a target, check every artifact against PyTorch, measure, and write one bundle.

    `model` is a registry name, 'package.module:factory', or a module that takes clips float32 `(1, 3, T, H, W)` and
    returns logits `(1, classes)`; None is the shipped model. A module is moved to the CPU and put in evaluation mode.
    `target` is a board, 'jetson', 'desktop' or 'cpu'. `data` is a data set to calibrate and measure on, e.g.
    'folder:/clips', see docs/data.md; None renders stick-actions. `out` is the bundle's file, by default
    MODEL-TARGET.edgeact in the working folder; an earlier bundle there is kept if the export fails.

    Raises UsageError, DataError, ModelError, ConversionError and StorageError, each naming expected and got, and
    TypeError for an unknown option.
    """
    _refuse_unknown("export", options, ExportOptions)
    from edgeact.export.build import Recipe, build
    from edgeact.export.models.loading import DEFAULT_MODEL

    source, module = (model, None) if isinstance(model, str | None) else (None, model)
    name = (source or DEFAULT_MODEL).rpartition(":")[2] if module is None else type(module).__name__
    recipe = Recipe(
        target=target,
        source=source,
        load=_load_request(options),
        precision=precision,
        data=_data_plan(data, options),
        max_drop_points=options.get("max_drop", 1.0),
        threads=options.get("threads"),
        sensitivity=options.get("sensitivity", False),
        compression=_compression(options),
        float_modules=tuple(options.get("float_modules", ())),
    )
    file = Path(out or f"{name}-{target}.edgeact")
    return build(recipe, callbacks=options.get("callbacks"), out=file, module=module).bundle


def evaluate(
    bundle: PathLike,
    data: str,
    *,
    split: str | None = None,
    videos: int | None = None,
    on_progress: OnStep | None = None,
    **options: Unpack[ArtifactOptions],
) -> AccuracyRecord:
    """Measure top-1 and top-5 of a bundle on labeled videos, of clips and of videos, with 95 % confidence intervals.

    `bundle` is a file or what `export` returned. `data` is a data set with the bundle's labels, `split` one of its
    splits (by default test, else val, else train), `videos` the number of videos to take, spread over the classes.

    Raises DatasetError if the labels differ, the split is empty or no video can be read, what `edgeact.load` raises,
    and TypeError for an unknown option.
    """
    _refuse_unknown("evaluate", options, ArtifactOptions)
    from edgeact.calibration.evaluation import EvaluationPlan, evaluate_bundle

    return evaluate_bundle(Path(bundle), EvaluationPlan(data, split, videos, **options), on_progress)


def benchmark(
    bundle: PathLike,
    *,
    runs: int | None = None,
    on_progress: OnStep | None = None,
    **options: Unpack[SessionOptions],
) -> LatencyRecord:
    """Time an artifact of a bundle on this machine: latency of one clip in ms, with the conditions of the measurement.

    `bundle` is a file or what `export` returned. `runs` is the number of timed runs, by default 100 or more within
    3 s. Raises UsageError if `runs` is below 1, what `edgeact.load` raises, and TypeError for an unknown option.
    """
    _refuse_unknown("benchmark", options, SessionOptions)
    from edgeact.bench import BenchOptions, BenchPlan, bench_bundle

    if runs is not None and runs < 1:
        raise UsageError(f"runs: expected 1 or more, got {runs}")
    plan = BenchPlan() if runs is None else BenchPlan(min_runs=runs, min_s=0.0)
    return bench_bundle(bundle, BenchOptions(plan=plan, **options), on_progress)


def report(*inputs: PathLike, out: PathLike = "report.html", markdown: PathLike | None = None) -> Report:
    """Write one HTML page about bundles and records, and return its content.

    `inputs` are bundles, and records that `edgeact bench`, `evaluate` and `search` wrote with --out. `markdown` is a
    file for the same content as Markdown. Raises UsageError for an input that is neither, BundleError for a damaged
    bundle, and StorageError if a file cannot be written.
    """
    from edgeact.report import read_inputs, render_html, render_markdown

    content = read_inputs([Path(path) for path in inputs])
    write_text(out, render_html(content))
    if markdown is not None:
        write_text(markdown, render_markdown(content))
    return content


def _refuse_unknown(function: str, options: Mapping[str, object], known: type) -> None:
    """Raise TypeError as Python does for a misspelt keyword argument."""
    if unknown := sorted(options.keys() - known.__annotations__.keys()):
        raise TypeError(f"{function}() got an unexpected keyword argument '{unknown[0]}'")


def _load_request(options: ExportOptions) -> LoadRequest:
    from edgeact.export.models.loading import LoadRequest
    from edgeact.export.models.spec import Pixels

    weights, labels = options.get("weights"), options.get("labels")
    return LoadRequest(
        weights=None if weights is None else Path(weights),
        labels=None if labels is None else tuple(labels),
        width=options.get("width"),
        clip=options.get("clip"),
        clip_frames=options.get("clip_frames"),
        size=options.get("size"),
        fps=options.get("fps"),
        resize=options.get("resize"),
        pixels=Pixels(options.get("mean"), options.get("std"), options.get("channel_order")),
        random_weights=options.get("random_weights", False),
        seed=options.get("seed", 0),
    )


def _data_plan(data: str | None, options: ExportOptions) -> DataPlan:
    from edgeact.export.build import DataPlan

    return DataPlan(
        data,
        calibration_clips=options.get("clips", 64),
        evaluation_videos=options.get("videos", 240),
        accept_poor=options.get("accept_poor_calibration", False),
        seed=options.get("seed", 0),
        method=options.get("method", "minmax"),
    )


def _compression(options: ExportOptions) -> Compression | None:
    """Return the request to prune and fine-tune, None without pruning."""
    if "prune" not in options and not options.get("prune_layer"):
        return None
    from edgeact.export.build.compression import Compression
    from edgeact.export.prune import PruneRequest
    from edgeact.export.train.distill import Distillation
    from edgeact.export.train.plan import TrainPlan

    return Compression(
        prune=PruneRequest(
            ratio=options.get("prune", 0.0),
            scope=options.get("prune_scope", "layer"),
            ratios=dict(options.get("prune_layer", {})),
            importance=options.get("importance", "l2"),
        ),
        channel_multiple=options.get("prune_multiple"),
        finetune=options.get("finetune"),
        steps=options.get("prune_steps", 1),
        train=TrainPlan(
            epochs=options.get("epochs", 3), learning_rate=options.get("lr", 1e-3), seed=options.get("seed", 0)
        ),
        distillation=Distillation(
            temperature=options.get("distill_temperature", 4.0), feature_weight=options.get("distill_features", 0.0)
        ),
    )
