"""DICOMweb: instances come in by STOW-RS (PS3.18, 10.5)."""
