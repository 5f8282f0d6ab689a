"""The model way of turning a trained network into a graph, each checked before it is let out."""
