"""The stages 'lower', 'calibrate', 'quantize' and 'emit': from a PyTorch module to candidates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from edgeact.calibration.range_cache import RangeCache
from edgeact.errors import ConversionError
from edgeact.export.build.load import is_foreign
from edgeact.export.build.state import Build, Context, Lowered
from edgeact.export.build.targets import FAMILIES
from edgeact.export.candidates.candidate import BuildInputs
from edgeact.export.candidates.int8 import Tuning
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.graph.values import weight_names
from edgeact.export.models.cost import measure_cost
from edgeact.export.quantize.activation_ranges import quantized_tensors
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.exclusions import float_everywhere
from edgeact.export.quantize.tuning import Tuner, TuningSettings
from edgeact.phrases import phrase
from edgeact.reasons import Decision, Int8Omitted, RangesCollected

__all__ = ["calibrate", "emit", "lower", "merged", "quantize", "tuner_of"]

_RANGE_CLIPS = 24  # FP16 has a margin of four over what they show, and any prefix is even over the classes


def lower(build: Build, context: Context) -> Build:
    """Convert the module to the FP32 master graph and count its cost. Raises ConversionError."""
    context.callbacks.begin("converting to ONNX")
    recipe, model, data = build.recipe, build.model, build.inputs.data
    master = to_onnx(model.module, model.clip)
    decisions: tuple[Decision, ...] = ()
    calibrator = None
    if "int8" in recipe.precisions and is_foreign(recipe, model, data):
        decisions = (Int8Omitted(cause="no-data"),)
    elif "int8" in recipe.precisions:
        on_progress = context.callbacks.step("activation ranges")
        calibrator = Calibrator(master, data.calibration.inputs, recipe.data.method, RangeCache(), on_progress)
    source = data.parity if data.provenance.synthetic and len(data.parity) else data.calibration
    inputs = BuildInputs(
        master=master,
        clip=model.clip,
        profile=build.inputs.profile,
        samples=source.inputs[:_RANGE_CLIPS],
        calibrator=calibrator,
        precisions=recipe.precisions,
        float_modules=recipe.float_modules,
    )
    lowered = Lowered(inputs, measure_cost(model.module, model.clip.input_shape))
    return replace(build, maybe_lowered=lowered, decisions=build.decisions + decisions)


def calibrate(build: Build, _context: Context) -> Build:
    """Observe the activation ranges of the master graph on the calibration clips, from the cache if they are there."""
    inputs = build.lowered.inputs
    if inputs.calibrator is None or not inputs.profile.supports_int8:
        return build
    if quantized_tensors(inputs.master, float_everywhere(inputs.master)):
        _ = inputs.calibrator.ranges
    return build


def quantize(build: Build, context: Context) -> Build:
    """Make the target's graphs in the wanted precisions."""
    inputs = build.lowered.inputs
    tuner = tuner_of(build, context)
    target_graphs = FAMILIES[inputs.profile.family].graphs(inputs, Tuning(tuner) if tuner else None, context.callbacks)
    decisions = merged(build.decisions, target_graphs.decisions, *(graph.decisions for graph in target_graphs.graphs))
    if inputs.calibrator is not None and any(graph.precision == "int8" for graph in target_graphs.graphs):
        ranges = inputs.calibrator.ranges
        collected = RangesCollected(method=ranges.method, summary=ranges.summary)
        decisions = merged(decisions, [collected])
        if ranges.unsettled:
            context.callbacks.on_note(phrase(collected))
    return replace(build, graphs=target_graphs.graphs, decisions=decisions)


def emit(build: Build, context: Context) -> Build:
    """Write the graphs for the target's backends.

    Raises ConversionError if a backend refuses a graph or nothing is left to make.
    """
    inputs = build.lowered.inputs
    emitted = FAMILIES[inputs.profile.family].emit(inputs, build.graphs, context.callbacks)
    decisions = merged(build.decisions, emitted.decisions)
    if not emitted.candidates:
        reasons = "; ".join(map(phrase, decisions)) or "the target has no such precision"
        raise ConversionError(
            f"{inputs.profile.title}: expected at least one artifact in {build.recipe.precision}, got none: {reasons}"
        )
    return replace(build, candidates=emitted.candidates, decisions=decisions)


def tuner_of(build: Build, context: Context) -> Tuner | None:
    """Return the tuner of the build's INT8 graphs; None if the clips are synthetic, which show no damage of INT8."""
    if context.tuner is None and not build.inputs.data.provenance.synthetic:
        settings = TuningSettings(
            max_drop_points=build.recipe.max_drop_points,
            with_sensitivity=build.recipe.sensitivity,
            parameters=weight_names(build.lowered.inputs.master),
        )
        context.tuner = Tuner(settings, context.callbacks)
    return context.tuner


def merged(*groups: Iterable[Decision]) -> tuple[Decision, ...]:
    """Return all decisions in order, each once however many graphs it concerns."""
    return tuple(dict.fromkeys(decision for group in groups for decision in group))
