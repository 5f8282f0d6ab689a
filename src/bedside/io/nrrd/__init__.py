"""NRRD, and its variant for segmentations."""
