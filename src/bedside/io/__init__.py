"""Readers and writers, one file per format, and the pictures and reports drawn of results."""
