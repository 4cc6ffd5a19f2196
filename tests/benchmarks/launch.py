"""Run a command and record its wall time and peak memory: `launch.py RESULT.json CORES COMMAND...`.

A separate small program: on Linux the peak memory of a process starts with the memory of its parent. With a parent of
12 MB the recorded peak is that of the command; with a benchmark process as the parent, which has PyTorch loaded, the
peak would be that of the benchmark.
"""

import json
import os
import resource
import subprocess
import sys
import time


def main() -> int:
    """Run the command on at most CORES of the cores of this process; return its exit code."""
    result, cores, *command = sys.argv[1:]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    start = time.perf_counter()
    code = subprocess.run(command, check=False).returncode
    wall_s = time.perf_counter() - start
    peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    with open(result, "w", encoding="utf-8") as handle:
        json.dump({"wall_s": wall_s, "peak_bytes": peak_bytes}, handle)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
