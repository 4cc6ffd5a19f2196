"""Exact graph rewrites, one a file."""
