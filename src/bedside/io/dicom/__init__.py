"""DICOM: cines, series, enhanced files and concatenations in, SEG out."""
