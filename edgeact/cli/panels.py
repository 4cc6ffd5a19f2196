"""Titles of the panels that the help of every verb sorts its options into."""

from __future__ import annotations

MODEL = "Model"
CLIP = "Clip"
DATA = "Data"
PRECISION = "Precision"
PRUNING = "Pruning"
TRAINING = "Training"
SEARCH = "Search"
RUNTIME = "Runtime"
MEASUREMENT = "Measurement"
OUTPUT = "Output"
