"""Run one command and write down its wall time and peak memory: `launch.py RESULT.json CORES COMMAND...`.

A program of its own, small on purpose: on Linux a process inherits, as the floor of its peak memory, what its parent
held when it was started. Started by a parent of 12 MB it tells its own peak; started by a benchmark that has PyTorch
loaded it would tell the benchmark's.
"""

import json
import os
import resource
import subprocess
import sys
import time


def main() -> int:
    """Run the command on at most CORES of the cores this process may use; the exit code is the command's."""
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
