"""DICOM: single files, series, enhanced files and concatenations in, SEG out."""
