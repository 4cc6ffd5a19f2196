#!/bin/sh
# adjustText 1.4.0 (with matplotlib 3.11.2, numpy 2.4.6, Python 3.11): `adjust_text` stops after `time_lim` seconds of wall clock,
# one second if it is not set, so the positions of the labels depend on how fast, and how busy, the machine is.
# Expected of equal inputs and equal random state: equal positions. Seen: with a limit that cuts the iteration short the positions
# differ from those of a run that is given more time, without a warning or an error. Exits 1 if that changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check adjustText matplotlib==3.11.2 numpy==2.4.6
"$folder/venv/bin/pip" list --disable-pip-version-check 2>/dev/null | grep -i -E "^(adjusttext|matplotlib|numpy|scipy) "
MPLBACKEND=svg MPLCONFIGDIR="$folder" "$folder/venv/bin/python" - <<'PYTHON'
import warnings

import matplotlib.pyplot as plt
import numpy as np
from adjustText import adjust_text

warnings.simplefilter("error")


def layout(seconds: float) -> np.ndarray:
    np.random.seed(0)
    points = np.random.default_rng(0).uniform(0, 1, (40, 2))
    figure, axes = plt.subplots(figsize=(3, 3))
    axes.scatter(*points.T)
    texts = [axes.text(*point, f"label {number}") for number, point in enumerate(points)]
    adjust_text(texts, ax=axes, time_lim=seconds)
    positions = np.array([text.get_position() for text in texts])
    plt.close(figure)
    return positions


short, long = layout(0.02), layout(5.0)
moved = np.abs(short - long).max()
print(f"largest difference of a label's position: {moved:.3f} of the axis")
assert moved > 0.01, "adjustText's layout no longer depends on the time limit"
PYTHON
