"""A process that times a bundle in the native engine and the peer in turns under a cap of the instruction set.

Arguments: BUNDLE PEER.xml THREADS ROUNDS. Prints one JSON document. The caps are in the environment: EDGEACT_NATIVE_ISA
for the engine, ONEDNN_MAX_CPU_ISA for OpenVINO.
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import openvino

from edgeact.runtime import FallbackWarning, load
from tests.benchmarks.subjects import bundle_subject, openvino_subject
from tests.benchmarks.timing import time_in_turns


def main() -> None:
    """Time both on a random clip."""
    bundle, peer, threads, rounds = sys.argv[1:]
    warnings.simplefilter("error", FallbackWarning)
    with load(bundle, backend="native", threads=int(threads)) as recognizer:
        # FP32 around the INT8 layers: OpenVINO under a cap and with BF16, the default of some processors, gives zeros.
        theirs = openvino_subject("peer", "fp32", openvino.Core().read_model(peer), int(threads))
        ours = bundle_subject(recognizer)
        clip = np.random.default_rng(0).normal(size=recognizer.clip.input_shape).astype(np.float32)
        latencies = time_in_turns([ours, theirs], clip, int(rounds))
        document = {
            "ours_ms": latencies[ours.name].samples_ms,
            "theirs_ms": latencies[theirs.name].samples_ms,
            "logits": ours.run(clip).tolist(),
            "ours": ours.how,
            "theirs": theirs.how,
        }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
