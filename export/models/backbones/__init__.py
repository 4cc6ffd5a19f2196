"""Backbones: networks that ask an attention builder for a module after every stage."""
