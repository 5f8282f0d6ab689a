import numpy as np
import pytest
import torch

from bedside.layers.attention import WindowAttention, attend, from_windows, to_windows


def attend_densely(queries, keys, values, *, heads, allowed):
    """The plain reference: every head alone, every token against every token, in float64."""
    tokens, width = queries.shape
    out = np.zeros((tokens, width))
    size = width // heads
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = queries[:, part] @ keys.T
        scores = np.where(allowed, scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[:, part] = weights / weights.sum(axis=1, keepdims=True) @ values
    return out


def test_folded_heads_give_what_separate_heads_give():
    rng = np.random.default_rng(0)
    queries, keys, values = (rng.standard_normal(shape) for shape in ((6, 12), (9, 4), (9, 4)))
    found = attend(*(torch.from_numpy(a)[None] for a in (queries, keys, values)))[0].numpy()
    expected = attend_densely(queries, keys, values, heads=3, allowed=np.ones((6, 9), dtype=bool))
    assert np.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("exchange", [False, True])
def test_window_attention_is_masked_dense_attention_plus_that_of_the_window_means(exchange):
    torch.manual_seed(0)
    heads, size, window, height, width = 2, 4, 4, 8, 12
    layer = WindowAttention(6, num_heads=heads, head_dim=size, window=window, exchange=exchange)
    layer = layer.double().eval()
    layer.project_out = torch.nn.Identity()
    x = torch.randn(1, 6, height, width, dtype=torch.float64)
    with torch.no_grad():
        found = layer(x)[0].permute(1, 2, 0).reshape(-1, heads * size).numpy()
        projected = layer.project_in(x)[0].permute(1, 2, 0).reshape(height * width, -1).numpy()
    rows, columns = np.divmod(np.arange(height * width), width)
    home = rows // window * (width // window) + columns // window
    queries, keys, values = np.split(projected, np.cumsum(layer.widths)[:-1], axis=1)
    expected = attend_densely(
        queries, keys, values, heads=heads, allowed=home[:, None] == home[None]
    )
    if exchange:
        means = [
            np.stack([part[home == w].mean(axis=0) for w in range(home.max() + 1)])
            for part in (queries, keys, values)
        ]
        everywhere = np.ones((len(means[0]),) * 2, dtype=bool)
        expected = expected + attend_densely(*means, heads=heads, allowed=everywhere)[home]
    assert np.allclose(found, expected, atol=1e-10)


def test_windows_hold_neighbours_and_go_back_to_their_place():
    x = torch.arange(2 * 3 * 8 * 12, dtype=torch.float32).reshape(2, 3, 8, 12)
    tokens = to_windows(x, 4)
    assert tokens.shape == (2, 6, 16, 3)
    assert torch.equal(tokens[0, 1, :, 0], x[0, 0, 0:4, 4:8].reshape(-1))
    assert torch.equal(from_windows(tokens, 8, 12), x)


def test_without_the_exchange_nothing_crosses_a_window():
    torch.manual_seed(0)
    x = torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[..., :4, :4] += 1
    for exchange in (False, True):
        layer = WindowAttention(8, num_heads=2, head_dim=4, window=4, exchange=exchange).eval()
        with torch.no_grad():
            difference = (layer(changed) - layer(x)).abs()[0].sum(dim=0)
        assert bool(difference[4:, 4:].max() > 1e-6) == exchange
