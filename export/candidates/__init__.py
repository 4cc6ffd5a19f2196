"""Candidates: one artifact with its members, and the INT8 graph that several are made from."""
