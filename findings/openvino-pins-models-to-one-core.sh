#!/bin/sh
# OpenVINO 2026.4.1 (Linux, Python 3.11, numpy 2.4.6; two cores or more): with the hint LATENCY, which pins threads by default
# (ENABLE_CPU_PINNING), the thread that runs an inference is bound to the first core while it runs, whatever the number of
# compiled models in the process. So two models with INFERENCE_NUM_THREADS=1 that run in two threads share one core and
# have half the rate, while the other cores are idle.
# Expected: two models of one thread use two cores. With ENABLE_CPU_PINNING=False they do, at the same latency alone.
# Seen: both running threads bound to CPU {0} with the default, to all CPUs without pinning. Exits 1 if that changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import os
import sys
import threading
import time

import numpy as np
import openvino as ov
import openvino.opset13 as ops

if len(os.sched_getaffinity(0)) < 2:
    sys.exit("needs two cores")


def model():
    clip = ops.parameter([1, 16, 8, 32, 32], np.float32)
    result = clip
    for _ in range(20):
        weight = ops.constant(np.full((16, 16, 3, 3, 3), 0.01, np.float32))
        result = ops.convolution(result, weight, [1] * 3, [1] * 3, [1] * 3, [1] * 3)
    return ov.Model([ops.result(result)], [clip])


def cpus_while_running(**options):
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, **options}
    requests = [ov.Core().compile_model(model(), "CPU", settings).create_infer_request() for _ in range(2)]
    ids, until = [], time.monotonic() + 2

    def run(request):
        ids.append(threading.get_native_id())
        while time.monotonic() < until:
            request.infer()

    threads = [threading.Thread(target=run, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    fewest = [min((os.sched_getaffinity(number) for _ in range(2000)), key=len) for number in ids]
    for thread in threads:
        thread.join()
    return fewest


pinned, free = cpus_while_running(), cpus_while_running(ENABLE_CPU_PINNING=False)
print(f"pinned: {pinned}, not pinned: {free}")
everywhere = os.sched_getaffinity(0)
assert pinned[0] == pinned[1] and len(pinned[0]) == 1, "two models are no longer pinned to the same core"
assert free == [everywhere, everywhere], free
PYTHON
