"""Print an event when an action begins, from a camera, a stream or a video file.

    python examples/camera_events.py colors.edgeact 0

The source is a camera index, an rtsp:// address, a GStreamer pipeline or a file. A live source never lags: windows that
arrive while the model is busy are dropped, and the newest is classified.
"""

import sys
from collections import deque
from collections.abc import Iterable, Iterator

import edgeact
from edgeact.runtime import WindowResult

CONFIRMATIONS = 2  # successive windows that must agree before an event is reported
MIN_SCORE = 0.5


def action_starts(windows: Iterable[WindowResult]) -> Iterator[tuple[float, str]]:
    """Yield (seconds, label) whenever another action is confirmed."""
    recent: deque[str | None] = deque(maxlen=CONFIRMATIONS)
    current = None
    for window in windows:
        if window.windows_dropped:
            print(f"{window.windows_dropped} windows dropped", file=sys.stderr)
        prediction = window.prediction
        recent.append(prediction.label if prediction.score >= MIN_SCORE else None)
        if recent.count(recent[0]) == CONFIRMATIONS and recent[0] != current:
            current = recent[0]
            if current is not None:
                yield window.end_s, current


def main(bundle: str, source: str) -> None:
    with edgeact.load(bundle) as recognizer:
        for seconds, label in action_starts(recognizer.stream(source)):
            print(f"{seconds:.1f} s: {label}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
