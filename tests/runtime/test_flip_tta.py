import numpy as np
import pytest

from bedside.runtime.flip_tta import FlipTTASession


class Ramp:
    """Adds to the image how far along each axis a pixel lies: nothing a mirror leaves alone."""

    backend, precision, threads, is_shared = "made up", "f32", 1, False

    def __init__(self):
        self.calls = 0

    def predict(self, tensor, out=None):
        self.calls += 1
        ramp = sum(np.indices(tensor.shape[2:]), np.zeros(tensor.shape[2:]))
        return (tensor + ramp).astype(np.float32)


@pytest.mark.parametrize(("sizes", "axes"), [((4, 6), (1,)), ((4, 6), (0, 1)), ((3, 4, 5), (0, 2))])
def test_the_mean_over_mirrors_is_even_along_their_axes(sizes, axes):
    image = np.random.default_rng(0).random((2, 1, *sizes), dtype=np.float32)
    before, network = image.copy(), Ramp()
    logits = FlipTTASession(network, axes).predict(image)
    assert network.calls == 2 ** len(axes)
    expected = sum(
        np.full(sizes, (size - 1) / 2) if axis in axes else np.indices(sizes)[axis]
        for axis, size in enumerate(sizes)
    )
    assert np.allclose(logits - image, expected, atol=1e-5)
    assert logits.dtype == np.float32
    assert (image == before).all()
