"""NIfTI: header, variants, place in the patient, labels."""
