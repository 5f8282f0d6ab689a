"""Readers and writers of image files: a module or package per format, listed in `formats`."""
