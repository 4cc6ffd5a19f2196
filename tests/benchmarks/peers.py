"""Peers that `make bench` installs: torch.compile, MNN and ncnn, each with its documented settings for latency."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgeact.errors import EdgeactError
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.runtime import load
from tests.benchmarks.records import BenchRow
from tests.benchmarks.subjects import Array, Subject, bundle_subject, require_agreement, torch_subject
from tests.benchmarks.timing import speedup, time_in_turns
from tests.benchmarks.workspace import Workspace

__all__ = ["compiled_subject", "mnn_subject", "ncnn_subject", "peers"]

_ROUNDS = 5
_SHOWN = 300


def peers(workspace: Workspace) -> list[BenchRow]:
    """Compare the CPU bundle with torch.compile, MNN and ncnn, in few rounds: one of them takes seconds a clip.

    A peer that does not run has no row; the report names the peer and its error.
    """
    module, threads, clip = workspace.model.module, workspace.settings.threads, workspace.data.parity.inputs[0]
    graph = to_bytes(to_onnx(module, workspace.model.clip))
    makers: tuple[tuple[str, Callable[[], Subject]], ...] = (
        ("torch.compile", lambda: compiled_subject(module, threads)),
        ("MNN", lambda: mnn_subject(graph, workspace.folder, threads)),
        ("ncnn", lambda: ncnn_subject(module, clip, workspace.folder, threads)),
    )
    bundle, rows = workspace.export("cpu").path, []
    reference = torch_subject(module, threads)
    with load(str(bundle), threads=threads) as recognizer:
        ours = bundle_subject(recognizer)
        for name, make in makers:
            workspace.on_step(f"timing {name}")
            try:
                peer = make()
                agreement = require_agreement(peer, reference, [clip])
                latencies = time_in_turns([ours, peer], clip, min(_ROUNDS, workspace.settings.rounds))
            except Exception as error:  # of any library, and of those that are not installed
                text = " ".join(str(error).split())[:_SHOWN]
                workspace.leave_out(f"bundle against {name}", f"{type(error).__name__}: {text}")
                continue
            how = f"{peer.how}; {agreement:.1f} dB against PyTorch; {ours.how}"
            samples = (latencies[ours.name].samples_ms, latencies[peer.name].samples_ms)
            rows.append(speedup(f"bundle: times faster than {peer.name}", *samples, how))
    return rows


def compiled_subject(module: nn.Module, threads: int) -> Subject:
    """Return PyTorch FP32 by `torch.compile` with its defaults, in inference mode; it needs a C++ compiler."""
    torch.set_num_threads(threads)
    compiled = torch.compile(module)

    def run(clip: Array) -> Array:
        with torch.inference_mode():
            logits: Array = compiled(torch.from_numpy(clip)).numpy()
        return logits

    return Subject("torch.compile FP32", "fp32", run, f"inference_mode, {threads} threads")


def mnn_subject(graph: bytes, folder: Path, threads: int) -> Subject:
    """Return MNN FP32 of the ONNX graph, with precision 'high', which is FP32 on CPUs.

    Converts by the function behind MNN's command, which runs pip (findings/mnn-converter-runs-pip.sh).
    """
    import _tools
    import MNN.expr
    import MNN.nn

    source, converted = folder / "peer.onnx", folder / "peer.mnn"
    source.write_bytes(graph)
    files = ("--modelFile", str(source), "--MNNModel", str(converted))
    _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *files, "--bizCode", "peer"])
    runtime = MNN.nn.create_runtime_manager(({"backend": "CPU", "numThread": threads, "precision": "high"},))
    network = MNN.nn.load_module_from_file(str(converted), ["clip"], ["logits"], runtime_manager=runtime)

    def run(clip: Array) -> Array:
        variable = MNN.expr.const(clip, list(clip.shape), MNN.expr.NCHW)
        return np.array(network.forward([variable])[0].read(), dtype=np.float32).reshape(1, -1)

    version = importlib.metadata.version("MNN")
    return Subject("MNN FP32", "fp32", run, f"MNN {version}, precision high, {threads} threads")


def ncnn_subject(module: nn.Module, example: Array, folder: Path, threads: int) -> Subject:
    """Return ncnn with its defaults (FP16 or BF16 storage if the CPU has it), converted by pnnx."""
    import ncnn

    traced, shape = folder / "peer.pt", str(list(example.shape)).replace(" ", "")
    with torch.inference_mode():
        torch.jit.trace(module, torch.from_numpy(example)).save(str(traced))  # type: ignore[no-untyped-call]
    command: list[str | Path] = [Path(sys.executable).with_name("pnnx"), traced, f"inputshape={shape}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if not (folder / "peer.ncnn.param").is_file():
        raise EdgeactError(f"pnnx wrote no network: {done.stderr.strip()[-_SHOWN:]}")
    network = ncnn.Net()
    network.opt.num_threads = threads
    network.load_param(str(folder / "peer.ncnn.param"))
    network.load_model(str(folder / "peer.ncnn.bin"))

    def run(clip: Array) -> Array:
        extractor = network.create_extractor()
        extractor.input("in0", ncnn.Mat(clip[0]).clone())
        return np.array(extractor.extract("out0")[1], dtype=np.float32).reshape(1, -1)

    version = importlib.metadata.version("ncnn")
    return Subject("ncnn", "fp16", run, f"ncnn {version}, converted by pnnx, {threads} threads")
