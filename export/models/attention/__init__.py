"""Attention modules: one interface, usable in every backbone."""
