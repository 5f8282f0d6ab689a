"""The exchange across windows: their means attend to each other, with the same weights."""

import torch

from bedside.layers.attention.heads import Heads


def exchange(local: torch.Tensor, means: torch.Tensor, heads: Heads) -> torch.Tensor:
    """Add to all tokens of each window what its mean token reads from the others'.

    It has reach and no weights: means of queries, keys and values are what the same
    projection would give of a window's mean. Its cost grows with the square of the number
    of windows, with a small factor.

    Args:
        local: (B, windows, N, heads * d), what each token has read in its window.
        means: (B, windows, C), means of queries, keys and values over each window.
        heads: How C divides.

    Returns:
        Like `local`.

    Source:
        Ours.

    Example:
        >>> means = torch.tensor([[[0.0, 0.0, 2.0], [0.0, 0.0, 4.0]]])
        >>> exchange(torch.zeros(1, 2, 1, 1), means, Heads(num_heads=1, head_dim=1)).tolist()
        [[[[3.0]], [[3.0]]]]
    """
    if means.shape[1] == 1:
        return local
    return local + heads.attend(means).unsqueeze(2)
