"""Model compression: (spec, weights) in, (spec, weights) or a smaller graph out."""
