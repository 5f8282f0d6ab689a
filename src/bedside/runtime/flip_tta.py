"""Test-time augmentation by flips, for evaluation only."""

import itertools
from collections.abc import Sequence

import numpy as np

from bedside.runtime.contract import Session, WrappedSession


class FlipTTASession(WrappedSession):
    """A session that averages logits over every combination of mirrors.

    Two runs for each axis, so that three axes take eight times as long. It helps where a
    mirrored image is as likely as the image, and a network was trained with mirrors. It keeps
    nothing between calls, so as many threads may call it as may call the session.

    Args:
        session: The network.
        axes: Axes to mirror along, counted from 0 after batch and channels.

    Source:
        As in nnU-Net, Isensee et al. 2021, doi:10.1038/s41592-020-01008-z.
    """

    def __init__(self, session: Session, axes: Sequence[int]) -> None:
        super().__init__(session)
        self.mirrors = [
            tuple(2 + axis for axis in chosen)
            for count in range(len(set(axes)) + 1)
            for chosen in itertools.combinations(sorted(set(axes)), count)
        ]

    def predict(self, tensor: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Turn (B, C, *S) float32 into (B, K, *s) float32 logits that the caller owns."""
        total = self.session.predict(tensor, out)  # of the empty mirror, which comes first
        for mirror in self.mirrors[1:]:
            total += np.flip(self.session.predict(np.flip(tensor, mirror)), mirror)
        total /= np.float32(len(self.mirrors))
        return total
