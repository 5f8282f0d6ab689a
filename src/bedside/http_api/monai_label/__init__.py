"""MONAI Label's protocol, as far as 3D Slicer's and OHIF's plug-ins need it to segment.

Source: MONAI Label 0.8.5: its client, and what its plug-ins send and read.
"""
