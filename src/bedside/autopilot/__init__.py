"""Compression to the clock: a budget in milliseconds in, a model shown not to be worse out."""
