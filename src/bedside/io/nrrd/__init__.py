"""NRRD, and its form for segmentations."""
