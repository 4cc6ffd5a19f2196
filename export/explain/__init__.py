"""Pictures of attention weights in a video, over frames, positions, channels and frequencies, with Grad-CAM."""

from edgeact.export.explain.picture import Picture, PictureRequest, make_picture

__all__ = ["Picture", "PictureRequest", "make_picture"]
