"""Names that need no library to be read."""

OURS = "ours:"
"""What the names of our own networks begin with."""

RECIPES_OWN = f"{OURS}recipe"
"""Names the network that a recipe describes; its results are named after the recipe's file."""
