"""A trained network compressed to a budget, each step checked on patients."""
