"""From logits to logits, with the image before them: conditional random fields."""

from bedside.pipeline.refine.apply import refine_logits

__all__ = ["refine_logits"]
