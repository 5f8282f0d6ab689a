"""NIfTI: its header, its forms, its place in the patient."""
