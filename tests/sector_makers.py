"""Bright ultrasound sectors on black."""

import numpy as np


def make_sector(size=128, half_deg=35.0, apex=(-4.0, 63.5)):
    """A bright sector on black, (1, H, W)."""
    rows, columns = np.mgrid[:size, :size]
    angle = np.degrees(np.arctan2(columns - apex[1], rows - apex[0]))
    depth = np.hypot(columns - apex[1], rows - apex[0])
    return ((np.abs(angle) < half_deg) & (depth < size)).astype(np.float32)[None]
