"""Compression to the clock: a budget of milliseconds in, a network shown not to be worse out."""
