"""A process that runs one and two recognizers in turns, each on a core of its own: `BUNDLE TURNS`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time

import numpy as np

from edgeact.runtime import Recognizer, load

_SECONDS = 1.0


def main() -> None:
    """Print the share of each turn as JSON: predictions of two recognizers by twice those of one."""
    bundle, turns = sys.argv[1], int(sys.argv[2])
    first, second = sorted(os.sched_getaffinity(0))[:2]
    with contextlib.ExitStack() as stack:
        pair = [stack.enter_context(_on_core(core, bundle)) for core in (first, second)]
        shares = [_count(pair, (first, second)) / (2 * _count(pair[:1], (first,))) for _ in range(turns)]
        how = f"{pair[0].choice.artifact} on {pair[0].choice.backend}"
    print(json.dumps({"shares": shares, "seconds": _SECONDS, "ours": how}))


def _on_core(core: int, bundle: str) -> Recognizer:
    """Load a recognizer of one thread whose helpers, if it starts any, stay on the core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return load(bundle, threads=1)
    finally:
        os.sched_setaffinity(0, before)


def _count(recognizers: list[Recognizer], on_cores: tuple[int, ...]) -> float:
    """Return the predictions a second of all recognizers, which run at the same time."""
    rates = [0.0] * len(recognizers)
    barrier = threading.Barrier(len(recognizers))

    def work(index: int) -> None:
        os.sched_setaffinity(0, {on_cores[index]})  # of this thread alone
        recognizer = recognizers[index]
        clip = np.random.default_rng(0).normal(size=recognizer.clip.input_shape).astype(np.float32)
        recognizer.session.run(clip)
        barrier.wait()
        start, done = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < _SECONDS:
            recognizer.session.run(clip)
            done += 1
        rates[index] = done / elapsed

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(recognizers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


if __name__ == "__main__":
    main()
