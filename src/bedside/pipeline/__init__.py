"""From frame to tensor, and from logits back to labels on the frame; memory only, no disk."""
