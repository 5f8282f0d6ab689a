"""Heads of the mission's last page on the frozen features of a bundle: contours, and diffusion."""
