"""Make records as `edgeact bench` writes them, with latencies drawn from a model of a real machine."""

from __future__ import annotations

import numpy as np

from edgeact.bench import summarize
from edgeact.records import LatencyRecord, Machine


def noisy_latencies_ms(p50_ms: float, runs: int, seed: int, noise: float = 0.03) -> list[float]:
    """Draw correlated latencies (an AR(1) process) with a tail of rare slow runs, median near `p50_ms`."""
    generator = np.random.default_rng(seed)
    level, samples = 0.0, []
    for _ in range(runs):
        level = 0.8 * level + 0.6 * noise * generator.standard_normal()
        spike = generator.exponential(0.5) if generator.random() < 0.03 else 0.0
        samples.append(p50_ms * (np.exp(level) + spike))
    return samples


def make_record(
    p50_ms: float = 10.0, *, runs: int = 200, seed: int = 0, threads: int = 2, **changes: object
) -> LatencyRecord:
    """Make a latency record; `changes` replace fields of the record or of its machine."""
    machine = Machine(
        processor="Test CPU",
        architecture="x86_64",
        cores=4,
        memory_bytes=8 << 30,
        operating_system="Linux 6.1",
        versions={"openvino": "2026.4.1"},
    )
    of_machine = {name: value for name, value in changes.items() if name in Machine.model_fields}
    record = LatencyRecord(
        created_utc="2026-01-01T00:00:00Z",
        bundle_digest="a" * 64,
        model="msf-r3d-fsam",
        artifact="openvino-int8",
        precision="int8",
        backend="openvino",
        device="CPU",
        input_shape=(1, 3, 8, 112, 112),
        machine=machine.model_copy(update=of_machine),
        latency=summarize(noisy_latencies_ms(p50_ms, runs, seed), warmup_runs=5, threads=threads),
    )
    return record.model_copy(update={name: value for name, value in changes.items() if name not in of_machine})
