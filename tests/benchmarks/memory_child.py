"""A process for the measurement of peak memory: `bundle PATH THREADS` or `torch WIDTH THREADS`."""

from __future__ import annotations

import sys

import numpy as np

_RUNS = 20


def main() -> None:
    """Classify a random clip several times with the runtime or with PyTorch."""
    kind, argument, threads = sys.argv[1:]
    run = _recognize if kind == "bundle" else _forward
    run(argument, int(threads))


def _recognize(path: str, threads: int) -> None:
    from edgeact.runtime import load

    with load(path, threads=threads) as recognizer:
        shape = (recognizer.clip.clip_frames, 240, 320, 3)
        frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        for _ in range(_RUNS):
            recognizer.predict(frames)


def _forward(width: str, threads: int) -> None:
    import torch

    from edgeact.export.models.loading import LoadRequest, load_model

    torch.set_num_threads(threads)
    model = load_model("msf-r3d-fsam", LoadRequest(random_weights=True, width=int(width)))
    clip = torch.zeros(model.clip.input_shape)
    with torch.inference_mode():
        for _ in range(_RUNS):
            model.module(clip)


if __name__ == "__main__":
    main()
