"""The command line: one small file per verb, each importing its room only when the verb runs."""

from edgeact.cli.main import main

__all__ = ["main"]
