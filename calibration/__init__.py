"""Data sets, calibration clips, activation ranges, accuracy and parity."""

from edgeact.extras import need

need("video", "cv2")
need("evaluate", "scipy")
