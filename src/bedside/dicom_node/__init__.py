"""A DICOM node: receives series, segments them, sends results on."""
