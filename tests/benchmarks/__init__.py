"""Speed and memory against the limits this project sets itself: `python -m tests.benchmarks`."""
