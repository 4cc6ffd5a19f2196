"""The backbones: networks without attention, each telling attention modules where they may stand."""
