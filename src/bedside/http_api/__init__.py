"""Segmentation over HTTP: requests, jobs, streams, and the protocols of other programs."""
