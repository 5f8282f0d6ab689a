"""Device code of sparse attention, backward; weights are computed again from each row's sums.

Nothing is added up across programs: one kernel owns query rows, the other owns keys and visits
the windows that see them in a fixed order. So the gradient is the same, bit for bit, every time.
"""

import triton
import triton.language as tl

from bedside.layers.kernels.device import (
    add_product,
    count_rows,
    find_keys,
    load_rows,
    offset_of,
    place_tokens,
)


@triton.jit
def load_sums(sums, at, exists, sizes, heads: tl.constexpr):
    """Highest score of rows, and 1 over the sum of their weights.

    Apart, as a logarithm of both would lose the bits of one in the other.
    """
    highest = tl.load(sums + at, mask=exists, other=0.0)
    total = tl.load(sums + count_rows(sizes, heads) + at, mask=exists, other=1.0)
    return highest, 1.0 / total


@triton.jit
def weigh_keys(queries, upstream, spot, to_values, visible, exists, highest, shrink):
    """Keys of a tile, their weights before the gates, and the gradient of their weights."""
    shown = load_rows(spot, visible)
    values = load_rows(spot + to_values, visible)
    scores = tl.dot(queries, tl.trans(shown), input_precision="ieee")
    weights = tl.exp(scores - highest[:, None]) * shrink[:, None]
    weights = tl.where(visible[None, :] & exists[:, None], weights, 0.0)
    return shown, weights, tl.dot(upstream, tl.trans(values), input_precision="ieee")


@triton.jit
def mean_gradient(queries, upstream, base, channel, exists, highest, shrink, first, chosen, gate,
                  counts, sizes, strides, to_values, window, halo, top_k: tl.constexpr,
                  rows: tl.constexpr, keys: tl.constexpr, seen: tl.constexpr):  # fmt: skip
    """Mean gradient of each row's weights, of the very numbers that it is subtracted from.

    A gate's gradient is a sum over all keys of a region, in which an error of the mean adds up.
    """
    mean = tl.full([rows], 0.0, tl.float32)
    for start in range(0, seen, keys):
        z, y, x, visible, slot = find_keys(
            start, first, chosen, counts, sizes, window, halo, top_k, keys
        )
        spot = base + offset_of(z, y, x, strides, window[0] == 1)[:, None] + channel
        _, weights, above = weigh_keys(
            queries, upstream, spot, to_values, visible, exists, highest, shrink
        )
        gates = tl.load(gate + slot, mask=visible, other=1.0)
        mean += tl.sum(weights * gates[None, :] * above, 1)
    return mean


@triton.jit
def attend_backward_rows(tokens, out, grad, sums, delta, grad_tokens, grad_gate, chosen, gate,
                         counts, sizes, strides, window: tl.constexpr, halo: tl.constexpr,
                         group: tl.constexpr, kv_heads: tl.constexpr, head_dim: tl.constexpr,
                         top_k: tl.constexpr, gated: tl.constexpr, rows: tl.constexpr,
                         keys: tl.constexpr, split: tl.constexpr):  # fmt: skip
    """Write the gradient of a tile of query rows, and what each key's gate has from them."""
    heads: tl.constexpr = kv_heads * group
    width: tl.constexpr = (heads + 2 * kv_heads) * head_dim
    flat: tl.constexpr = window[0] == 1
    region, image = tl.program_id(0), tl.program_id(2).to(tl.int64)
    serving = tl.program_id(1) % kv_heads
    row = tl.program_id(1) // kv_heads * rows + tl.arange(0, rows)
    z, y, x, exists = place_tokens(row // group, region, counts, sizes, window, (0, 0, 0))
    head = serving * group + row % group
    number = tl.arange(0, head_dim)[None, :]
    channel = number * strides[4]
    base = tokens + image * strides[0]
    place = offset_of(z, y, x, strides, flat) + head * (head_dim * strides[4])
    queries = load_rows(base + place[:, None] + channel, exists)
    base += (heads + serving) * (head_dim * strides[4])
    token = ((image * sizes[0] + z) * sizes[1] + y) * sizes[2] + x
    at = token * heads + head
    spread = at[:, None] * head_dim + number
    upstream = load_rows(grad + spread, exists)
    read = load_rows(out + spread, exists)
    drop = tl.sum(upstream.to(tl.float32) * read.to(tl.float32), 1)
    highest, shrink = load_sums(sums, at, exists, sizes, heads)
    first = region
    if top_k > 0:
        first = (image * tl.num_programs(0) + region) * top_k
    seen: tl.constexpr = (
        (window[0] + 2 * halo[0]) * (window[1] + 2 * halo[1]) * (window[2] + 2 * halo[2])
    ) * (top_k if top_k > 0 else 1)
    to_values = kv_heads * head_dim * strides[4]
    if gated and not split:
        drop = mean_gradient(
            queries, upstream, base, channel, exists, highest, shrink, first, chosen, gate,
            counts, sizes, strides, to_values, window, halo, top_k, rows, keys, seen,
        )  # fmt: skip
    tl.store(delta + at, drop, mask=exists)
    pulled = tl.full([rows, head_dim], 0.0, tl.float32)
    for start in range(0, seen, keys):
        kz, ky, kx, visible, slot = find_keys(
            start, first, chosen, counts, sizes, window, halo, top_k, keys
        )
        spot = base + offset_of(kz, ky, kx, strides, flat)[:, None] + channel
        shown, weights, above = weigh_keys(
            queries, upstream, spot, to_values, visible, exists, highest, shrink
        )
        pull = weights * (above - drop[:, None])
        if gated:
            own = (image * tl.num_programs(0) + region) * tl.num_programs(1) + tl.program_id(1)
            key = start + tl.arange(0, keys)
            tl.store(grad_gate + own * seen + key, tl.sum(pull, 0), mask=key < seen)
            gates = tl.load(gate + slot, mask=visible, other=1.0)
            pull = pull * gates[None, :]
        pulled = add_product(pull, shown, pulled, split)
    spread = (token * width + head * head_dim)[:, None] + number
    pulled = pulled.to(grad_tokens.dtype.element_ty)
    tl.store(grad_tokens + spread, pulled, mask=exists[:, None])


@triton.jit
def find_reader(number, region, z, y, x, counts, window, halo):
    """The window at one of 3 x 3 (x 3) places around a key's, and which keys it sees.

    Returns:
        Its index, whether it exists, and whether it sees each key.
    """
    reader_x = region % counts[2] + number % 3 - 1
    low = reader_x * window[2] - halo[2]
    seen = (x >= low) & (x < low + window[2] + 2 * halo[2])
    exists = (reader_x >= 0) & (reader_x < counts[2])
    if window[0] == 1:
        reader_y = region // counts[2] + number // 3 - 1
        reader = reader_y * counts[2] + reader_x
    else:
        reader_y = region // counts[2] % counts[1] + number // 3 % 3 - 1
        reader_z = region // (counts[2] * counts[1]) + number // 9 - 1
        low = reader_z * window[0] - halo[0]
        seen = seen & (z >= low) & (z < low + window[0] + 2 * halo[0])
        exists = exists & (reader_z >= 0) & (reader_z < counts[0])
        reader = (reader_z * counts[1] + reader_y) * counts[2] + reader_x
    low = reader_y * window[1] - halo[1]
    seen = seen & (y >= low) & (y < low + window[1] + 2 * halo[1])
    return reader, exists & (reader_y >= 0) & (reader_y < counts[1]), seen


@triton.jit
def attend_backward_keys(tokens, grad, sums, delta, grad_tokens, readers, bounds, gate,
                         counts, sizes, strides, window: tl.constexpr, halo: tl.constexpr,
                         group: tl.constexpr, kv_heads: tl.constexpr, head_dim: tl.constexpr,
                         top_k: tl.constexpr, gated: tl.constexpr, rows: tl.constexpr,
                         keys: tl.constexpr, split: tl.constexpr):  # fmt: skip
    """Write the gradient of a tile of keys and their values."""
    heads: tl.constexpr = kv_heads * group
    flat: tl.constexpr = window[0] == 1
    area: tl.constexpr = window[0] * window[1] * window[2]
    region, image = tl.program_id(0), tl.program_id(2).to(tl.int64)
    serving = tl.program_id(1) % kv_heads
    key = tl.program_id(1) // kv_heads * keys + tl.arange(0, keys)
    z, y, x, exists = place_tokens(key, region, counts, sizes, window, (0, 0, 0))
    number = tl.arange(0, head_dim)[None, :]
    channel = number * strides[4]
    base = tokens + image * strides[0]
    spot = offset_of(z, y, x, strides, flat) + (heads + serving) * (head_dim * strides[4])
    spot = base + spot[:, None] + channel
    shown = load_rows(spot, exists)
    values = load_rows(spot + kv_heads * head_dim * strides[4], exists)
    of_keys = tl.full([keys, head_dim], 0.0, tl.float32)
    of_values = tl.full([keys, head_dim], 0.0, tl.float32)
    begin, end = 0, 1
    if top_k > 0:
        own = image * tl.num_programs(0) + region
        begin, end = tl.load(bounds + own), tl.load(bounds + own + 1)
    elif halo[1] > 0:
        end = 9 if flat else 27
    for visit in range(begin, end):
        reader, scale, visible, stop = region, 1.0, exists, area * group
        if top_k > 0:
            edge = tl.load(readers + visit)
            reader = (edge // top_k % tl.num_programs(0)).to(tl.int32)
            if gated:
                scale = tl.load(gate + edge)
        elif halo[1] > 0:
            reader, there, sees = find_reader(visit, region, z, y, x, counts, window, halo)
            visible = exists & sees
            # A window that sees none of these keys has no rows to visit.
            stop = tl.where(there & (tl.sum(visible.to(tl.int32), 0) > 0), area * group, 0)
        for start in range(0, stop, rows):
            row = start + tl.arange(0, rows)
            qz, qy, qx, here = place_tokens(row // group, reader, counts, sizes, window, (0, 0, 0))
            head = serving * group + row % group
            place = offset_of(qz, qy, qx, strides, flat) + head * (head_dim * strides[4])
            queries = load_rows(base + place[:, None] + channel, here)
            at = (((image * sizes[0] + qz) * sizes[1] + qy) * sizes[2] + qx) * heads + head
            upstream = load_rows(grad + at[:, None] * head_dim + number, here)
            scores = tl.dot(shown, tl.trans(queries), input_precision="ieee")
            highest, shrink = load_sums(sums, at, here, sizes, heads)
            weights = tl.exp(scores - highest[None, :]) * (shrink * scale)[None, :]
            weights = tl.where(visible[:, None] & here[None, :], weights, 0.0)
            above = tl.dot(values, tl.trans(upstream), input_precision="ieee")
            above -= tl.load(delta + at, mask=here, other=0.0)[None, :]
            of_values = add_product(weights, upstream, of_values, split)
            of_keys = add_product(weights * above, queries, of_keys, split)
    token = ((image * sizes[0] + z) * sizes[1] + y) * sizes[2] + x
    spread = (token * (heads + 2 * kv_heads) + heads + serving)[:, None] * head_dim + number
    tl.store(grad_tokens + spread, of_keys, mask=exists[:, None])
    tl.store(grad_tokens + spread + kv_heads * head_dim, of_values, mask=exists[:, None])
