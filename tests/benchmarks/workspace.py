"""Resources that benchmarks share: the model, its clips and the exported bundles, each created on first use."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import openvino

from edgeact.bundle import open_bundle
from edgeact.calibration.datasets import load_dataset
from edgeact.devices import probe_machine
from edgeact.devices.probe import PACKAGES
from edgeact.errors import ModelError
from edgeact.export.build.data import DataPlan, ExportData, gather
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from edgeact.records import Machine
from tests.benchmarks.processes import ChildRun, run_child
from tests.benchmarks.records import BenchGap, BenchSettings
from tests.benchmarks.subjects import nncf_defaults
from tests.benchmarks.weights import MODEL, PRUNING, pruned_weights, trained_weights

__all__ = ["Exported", "Workspace"]


@dataclass(frozen=True)
class Exported:
    """A bundle, and the command and process that exported it."""

    path: Path
    child: ChildRun
    command: str


class Workspace:
    """The models to measure; the caller removes `folder`, `on_step` receives progress messages."""

    def __init__(self, settings: BenchSettings, folder: Path, on_step: Callable[[str], None]) -> None:
        self.settings = settings
        self.on_step = on_step
        self.folder = folder
        self.gaps: list[BenchGap] = []
        self._exports: dict[str, Exported] = {}

    @cached_property
    def model(self) -> LoadedModel:
        """The PyTorch model with the weights of the bundles: trained, or random with seed 0."""
        if self.settings.trained:
            return load_model(MODEL, LoadRequest(weights=trained_weights()))
        return load_model(MODEL, LoadRequest(random_weights=True, width=self.settings.width))

    @cached_property
    def data(self) -> ExportData:
        """The clips of the exporter for calibration and parity, sampled by its own function."""
        plan = DataPlan(self.settings.data, self.settings.calibration_clips)
        return gather(plan, self.model.labels, self.model.clip)

    @cached_property
    def machine(self) -> Machine:
        """The machine that measures, with the versions of the libraries."""
        return probe_machine((*PACKAGES, "nncf", "onnx"))

    @cached_property
    def peer(self) -> openvino.Model:
        """The model in INT8 by NNCF's defaults, calibrated on the exporter's clips."""
        return _peer(self.model, self.data)

    @cached_property
    def shipped_peer(self) -> openvino.Model:
        """The shipped model in INT8 by NNCF's defaults, calibrated likewise."""
        shipped = load_model(None, LoadRequest())
        plan = DataPlan(self.settings.data, self.settings.calibration_clips)
        return _peer(shipped, gather(plan, shipped.labels, shipped.clip))

    def leave_out(self, subject: str, reason: str) -> None:
        """Record that this machine or its packages cannot measure the subject."""
        self.on_step(f"{subject} is not measured: {reason}")
        self.gaps.append(BenchGap(subject=subject, reason=reason))

    def export_shipped(self) -> Exported:
        """Export the shipped model for CPUs in a fresh process, once."""
        return self._export("shipped", "cpu", ())

    def export(self, target: str, *, pruned: bool = False, trained: bool | None = None) -> Exported:
        """Export the model for `target` in a fresh process, once; the pruned model has the same shape with any weights.

        The weights are trained if available; `trained=False` selects random weights.
        """
        trained = self.settings.trained if trained is None else trained
        name = "-".join((target, *(("pruned",) if pruned else ()), "trained" if trained else "random"))
        is_new = name not in self._exports
        exported = self._export(name, target, (MODEL, *self._weights(pruned, trained)))
        if is_new and not pruned and trained == self.settings.trained:
            self._require_same_weights(exported.path)
        return exported

    def _export(self, name: str, target: str, model: tuple[str, ...]) -> Exported:
        if name not in self._exports:
            self.on_step("rendering the data set if it does not exist yet")
            load_dataset(self.settings.data)  # not part of the time of an export
            self.on_step(f"exporting {name} for {target}")
            path = self.folder / f"{name}.edgeact"
            arguments = (
                *("export", *model, "--target", target),
                *("--data", self.settings.data, "--clips", str(self.settings.calibration_clips)),
                *("--threads", str(self.settings.threads)),
            )
            child = run_child(
                [Path(sys.executable).with_name("edgeact"), *arguments, "--out", path], cores=self.settings.threads
            )
            self._exports[name] = Exported(path, child, " ".join(("edgeact", *arguments)))
        return self._exports[name]

    def _weights(self, pruned: bool, trained: bool) -> tuple[str, ...]:
        if trained:
            return ("--weights", str(pruned_weights() if pruned else trained_weights()))
        return ("--random-weights", "--width", str(self.settings.width), *(PRUNING if pruned else ()))

    def _require_same_weights(self, path: Path) -> None:
        exported, expected = open_bundle(path).manifest.model.weights_sha256, self.model.weights_sha256
        if exported != expected:
            raise ModelError(
                f"'{path}': expected weights {expected[:12]}, got {exported[:12]}; the peers would be another model"
            )


def _peer(model: LoadedModel, data: ExportData) -> openvino.Model:
    return nncf_defaults(to_bytes(to_onnx(model.module, model.clip)), data.calibration.inputs)
