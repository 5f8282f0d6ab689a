"""What each mechanism must give, by plain dense attention in float64: token by token, head by head.

Nothing is shared with the code: windows are found from coordinates, and what may not be seen
has weight 0.
"""

import itertools

import numpy as np


def coordinates(sizes):
    return np.array(list(itertools.product(*map(range, sizes))))


def attend_densely(queries, keys, values, *, weights):
    """Softmax attention of one head whose unnormalised weights are multiplied by `weights`."""
    scores = queries @ keys.T
    powers = weights * np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True) @ values


def over_heads(tokens, level, give):
    """Call `give(head, queries, keys, values)` for every query head, and put them together."""
    size, per = level.head_dim, level.num_heads // level.kv_heads
    width, kv_width = level.num_heads * size, level.kv_heads * size
    queries, keys, values = np.split(tokens, [width, width + kv_width], axis=1)
    out = []
    for head in range(level.num_heads):
        own, serving = slice(head * size, (head + 1) * size), head // per
        served = slice(serving * size, (serving + 1) * size)
        out.append(give(head, queries[:, own], keys[:, served], values[:, served]))
    return np.concatenate(out, axis=1)


def homes(sizes, side):
    """Window of each token, as an integer per axis, and the windows' number along each."""
    sides = np.minimum(side, sizes)
    counts = -(-np.array(sizes) // sides)
    return coordinates(sizes) // sides, counts, sides


def exchange(tokens, sizes, level, side):
    """What tokens read from the means of windows, or from means of these over a coarse grid."""
    home, counts, _ = homes(sizes, side)
    number = np.ravel_multi_index(home.T, counts)
    if counts.prod() == 1:
        return 0.0
    means = np.stack([tokens[number == w].mean(axis=0) for w in range(counts.prod())])
    cell = -(-counts // level.grid)
    cells = -(-counts // cell)
    belongs = np.ravel_multi_index((coordinates(counts) // cell).T, cells)

    def give(head, queries, keys, values):
        pool = [
            np.stack([part[belongs == c].mean(axis=0) for c in range(cells.prod())])
            for part in (keys, values)
        ]
        return attend_densely(queries, *pool, weights=np.ones((len(queries), len(pool[0]))))

    return over_heads(means, level, give)[number]


def windowed(tokens, sizes, level, *, halo):
    """Windows, with or without halo; the heads share several sizes among them."""
    place = coordinates(sizes)
    per_window = level.num_heads // len(level.windows)

    def give(head, queries, keys, values):
        home, _, sides = homes(sizes, level.windows[head // per_window])
        low = home * sides - min(halo, *sides)
        high = (home + 1) * sides + min(halo, *sides)
        seen = (place[None] >= low[:, None]) & (place[None] < high[:, None])
        return attend_densely(queries, keys, values, weights=seen.all(axis=2).astype(float))

    local = over_heads(tokens, level, give)
    if not level.exchange:
        return local
    size = level.head_dim
    pooled = [exchange(tokens, sizes, level, side) for side in level.windows]
    width = per_window * size
    for index, read in enumerate(pooled):
        part = slice(index * width, (index + 1) * width)
        local[:, part] += read[:, part] if np.ndim(read) else read
    return local


def window(tokens, sizes, level):
    return windowed(tokens, sizes, level, halo=0)


def overlap(tokens, sizes, level):
    return windowed(tokens, sizes, level, halo=level.halo)


def routed(tokens, sizes, level):
    home, counts, _ = homes(sizes, level.region)
    number, regions = np.ravel_multi_index(home.T, counts), counts.prod()
    means = np.stack([tokens[number == r].mean(axis=0) for r in range(regions)])
    affinity = np.zeros((regions, regions))

    def add(head, queries, keys, values):
        affinity[:] += queries @ keys.T / (level.num_heads // level.kv_heads)
        return values

    over_heads(means, level, add)
    weights = np.zeros_like(affinity)
    for region, row in enumerate(affinity):
        order = np.argsort(-row)
        chosen = order[: level.top_k]
        if regions <= level.top_k:
            weights[region, chosen] = 1
        else:
            above = row[chosen] - row[order[level.top_k]]
            weights[region, chosen] = (above + 1e-5) / (above[0] + 1e-5)
    spread = weights[number][:, number]
    local = over_heads(tokens, level, lambda _, q, k, v: attend_densely(q, k, v, weights=spread))
    return local + exchange(tokens, sizes, level, level.region) if level.exchange else local


def pooled(tokens, sizes, level):
    cell = -(-np.array(sizes) // level.grid)
    counts = -(-np.array(sizes) // cell)
    number = np.ravel_multi_index((coordinates(sizes) // cell).T, counts)

    def give(head, queries, keys, values):
        pool = [
            np.stack([part[number == c].mean(axis=0) for c in range(counts.prod())])
            for part in (keys, values)
        ]
        return attend_densely(queries, *pool, weights=np.ones((len(queries), len(pool[0]))))

    return over_heads(tokens, level, give)


def linear(tokens, sizes, level):
    def give(head, queries, keys, values):
        weights = np.maximum(queries, 0) @ np.maximum(keys, 0).T / len(keys)
        return weights @ values / (weights.sum(axis=1, keepdims=True) + 1e-3)

    return over_heads(tokens, level, give)


def dense(tokens, sizes, level):
    def give(head, queries, keys, values):
        everyone = np.ones((len(queries), len(keys)))
        return attend_densely(queries, keys, values, weights=everyone)

    return over_heads(tokens, level, give)
