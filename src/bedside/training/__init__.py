"""Data sets, augmentation, losses and the loop that trains."""
