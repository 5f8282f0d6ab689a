"""Device code of sparse attention, forward: gather, scores, softmax and values in one pass.

One program reads one tile of query rows of one window: its tokens, times the query heads that
share a head of keys. It finds the tokens that they see by their places in the map, so nothing is
padded, cut, copied or joined. Maps of two axes have a first axis of length 1.

Triton compiles these functions; they take no annotations but `tl.constexpr`.
"""

import triton
import triton.language as tl

LOWEST = tl.constexpr(-1e30)


@triton.jit
def place_tokens(index, region, counts, sizes, window, halo):
    """Coordinates of a window's tokens by their index in it, and whether they are in the map.

    Args:
        index: Index of each token in its window with halo, in reading order.
        region: Index of the window, one or one for each token.
        counts: Windows along each axis.
        sizes: Tokens along each axis.
        window: Side of a window along each axis.
        halo: Tokens around it along each axis.
    """
    side_x = window[2] + 2 * halo[2]
    x = index % side_x + region % counts[2] * window[2] - halo[2]
    inside = x < sizes[2]
    if window[0] == 1:
        # A map of two axes: half of the arithmetic.
        z = 0
        y = index // side_x
        inside = inside & (y < window[1] + 2 * halo[1])
        y = y + region // counts[2] * window[1] - halo[1]
    else:
        side_y = window[1] + 2 * halo[1]
        y = index // side_x % side_y + region // counts[2] % counts[1] * window[1] - halo[1]
        z = index // (side_x * side_y)
        inside = inside & (z < window[0] + 2 * halo[0])
        z = z + region // (counts[2] * counts[1]) * window[0] - halo[0]
        inside = inside & (z >= 0) & (z < sizes[0])
    inside = inside & (y < sizes[1])
    if halo[1] > 0:
        inside = inside & (x >= 0) & (y >= 0)
    return z, y, x, inside


@triton.jit
def offset_of(z, y, x, strides, flat: tl.constexpr):
    """Offset of tokens in an image."""
    offset = y * strides[2] + x * strides[3]
    if not flat:
        offset = offset + z * strides[1]
    return offset


@triton.jit
def find_keys(start, first, chosen, counts, sizes, window, halo, top_k: tl.constexpr,
              keys: tl.constexpr):  # fmt: skip
    """Coordinates of a tile of keys, whether they are seen, and their slots among the chosen.

    `first` is the index of the window, or where in `chosen` the regions that it sees begin.
    """
    key = start + tl.arange(0, keys)
    if top_k > 0:
        area = window[0] * window[1] * window[2]
        slot = first + key // area
        exists = key < top_k * area
        region = tl.load(chosen + slot, mask=exists, other=0).to(tl.int32)
        z, y, x, seen = place_tokens(key % area, region, counts, sizes, window, halo)
        seen = seen & exists
    else:
        slot = key
        z, y, x, seen = place_tokens(key, first, counts, sizes, window, halo)
    return z, y, x, seen, slot


@triton.jit
def count_rows(sizes, heads: tl.constexpr):
    """Rows of all images: where the second of two numbers of each row begins."""
    return tl.num_programs(2).to(tl.int64) * sizes[0] * sizes[1] * sizes[2] * heads


@triton.jit
def load_rows(places, exists):
    """Load rows of channels; 0 where there is none."""
    return tl.load(places, mask=exists[:, None], other=0.0)


@triton.jit
def add_product(weights, values, total, split: tl.constexpr):
    """Add weights (f32) @ values to a sum in f32.

    With `split` the weights are a sum of two numbers of the values' precision, so that only
    the inputs and the result are rounded to it.
    """
    if split:
        high = weights.to(values.dtype)
        low = (weights - high.to(tl.float32)).to(values.dtype)
        total = tl.dot(low, values, tl.dot(high, values, total))
    else:
        total = tl.dot(weights.to(values.dtype), values, total, input_precision="ieee")
    return total


@triton.jit
def attend_forward(tokens, out, sums, chosen, gate, counts, sizes, strides,
                   window: tl.constexpr, halo: tl.constexpr, group: tl.constexpr,
                   kv_heads: tl.constexpr, head_dim: tl.constexpr, top_k: tl.constexpr,
                   gated: tl.constexpr, rows: tl.constexpr, keys: tl.constexpr,
                   split: tl.constexpr):  # fmt: skip
    """Write what a tile of query rows reads, each row's highest score and sum of weights.

    In f32 scores are those before the gates, which multiply the weights.
    """
    heads: tl.constexpr = kv_heads * group
    flat: tl.constexpr = window[0] == 1
    region, image = tl.program_id(0), tl.program_id(2).to(tl.int64)
    serving = tl.program_id(1) % kv_heads
    row = tl.program_id(1) // kv_heads * rows + tl.arange(0, rows)
    z, y, x, exists = place_tokens(row // group, region, counts, sizes, window, (0, 0, 0))
    head = serving * group + row % group
    channel = tl.arange(0, head_dim)[None, :] * strides[4]
    base = tokens + image * strides[0]
    place = offset_of(z, y, x, strides, flat) + head * (head_dim * strides[4])
    queries = load_rows(base + place[:, None] + channel, exists)
    base += (heads + serving) * (head_dim * strides[4])
    first = region
    if top_k > 0:
        first = (image * tl.num_programs(0) + region) * top_k
    highest = tl.full([rows], LOWEST, tl.float32)
    total = tl.full([rows], 0.0, tl.float32)
    read = tl.full([rows, head_dim], 0.0, tl.float32)
    seen: tl.constexpr = (
        (window[0] + 2 * halo[0]) * (window[1] + 2 * halo[1]) * (window[2] + 2 * halo[2])
    )
    for start in range(0, seen * top_k if top_k > 0 else seen, keys):
        kz, ky, kx, visible, slot = find_keys(
            start, first, chosen, counts, sizes, window, halo, top_k, keys
        )
        spot = base + offset_of(kz, ky, kx, strides, flat)[:, None] + channel
        shown = load_rows(spot, visible)
        scores = tl.dot(queries, tl.trans(shown), input_precision="ieee")
        if gated:
            gates = tl.load(gate + slot, mask=visible, other=1.0)[None, :]
            if split:
                scores += tl.log(gates)
        scores = tl.where(visible[None, :], scores, float("-inf"))
        above = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp(scores - above[:, None])
        if gated and not split:
            # As in the backward pass: by way of logarithms, weights would differ from its own by
            # the rounding of score and logarithm, and a gate's gradient is a sum of that.
            weights *= gates
        shrink = tl.exp(highest - above)
        total = total * shrink + tl.sum(weights, 1)
        values = load_rows(spot + kv_heads * head_dim * strides[4], visible)
        read = add_product(weights, values, read * shrink[:, None], split)
        highest = above
    at = (((image * sizes[0] + z) * sizes[1] + y) * sizes[2] + x) * heads + head
    tl.store(sums + at, highest, mask=exists)
    tl.store(sums + count_rows(sizes, heads) + at, total, mask=exists)
    read = (read / total[:, None]).to(out.dtype.element_ty)
    at = at[:, None] * head_dim + tl.arange(0, head_dim)[None, :]
    tl.store(out + at, read, mask=exists[:, None])
