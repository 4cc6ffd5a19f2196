"""Pictures of what attention weighs in a video: frames, positions, channels and frequencies, and Grad-CAM beside."""

from edgeact.export.explain.picture import Picture, PictureRequest, make_picture

__all__ = ["Picture", "PictureRequest", "make_picture"]
