"""A process that asks a study for trials: `python -m tests.export.search.asking STUDY TRIALS SECONDS_A_TRIAL`.

It prints the number of a trial when it has it, and 'done NUMBER' when its outcome is stored.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from edgeact.export.search.study import Budgets, open_study
from tests.export.search.making import SPACE, outcome

if __name__ == "__main__":
    with open_study(Path(sys.argv[1]), {"model": "m"}, SPACE) as study:
        while True:
            asked = study.ask(int(sys.argv[2]))
            if asked is None and not study.is_waited_for:
                break
            if asked is None:
                time.sleep(0.02)
                continue
            print(asked.number, flush=True)
            time.sleep(float(sys.argv[3]))
            study.finish(asked, outcome(1.0 + asked.number), Budgets())
            print("done", asked.number, flush=True)
