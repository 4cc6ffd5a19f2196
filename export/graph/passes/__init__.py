"""Exact graph rewrites, one per file."""
