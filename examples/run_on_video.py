"""Classify a video file with a bundle: one label per window, then the label of the whole video.

    python examples/run_on_video.py colors.edgeact video.mp4

The last line is the class with the highest mean score over all windows.
"""

import sys

import numpy as np

import edgeact


def main(bundle: str, video: str) -> None:
    with edgeact.load(bundle) as recognizer:
        print(f"{recognizer.choice.artifact} on {recognizer.choice.backend} ({recognizer.choice.device})")
        scores = []
        for window in recognizer.stream(video):
            prediction = window.prediction
            print(f"{window.start_s:5.1f} to {window.end_s:4.1f} s  {prediction.label}  {prediction.score:.0%}")
            scores.append(prediction.scores)
        mean = np.mean(scores, axis=0)
        print(f"video: {recognizer.labels[mean.argmax()]}  {mean.max():.0%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
