"""Evidence for a bundle: a pack that can be checked without a network, and cases run again."""
