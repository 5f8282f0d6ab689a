"""Names that need no library to be read."""

OURS = "ours:"
"""What the names of our own networks begin with."""
