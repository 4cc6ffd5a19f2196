"""Data sets, calibration clips, accuracy and parity."""
