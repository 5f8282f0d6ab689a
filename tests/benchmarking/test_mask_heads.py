import numpy as np
import pytest
import torch

from heads import diffusion, graph, rings, shape, training
from heads.spread import compare_draws

SIDE = 256


@pytest.fixture
def grid():
    return np.mgrid[:SIDE, :SIDE] + 0.5


def overlap(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def draw_circle(grid, *, row, column, radius):
    return (grid[0] - row) ** 2 + (grid[1] - column) ** 2 < radius**2


def draw_crescent(grid):
    """Like the myocardium: an arch around a cavity, open below."""
    outer = ((grid[0] - 130) / 90) ** 2 + ((grid[1] - 120) / 60) ** 2 < 1
    inner = ((grid[0] - 150) / 90) ** 2 + ((grid[1] - 120) / 35) ** 2 < 1
    return outer & ~inner & (grid[0] < 190)


def make_circle(radius, *, vertices=rings.VERTICES):
    angle = torch.arange(vertices) * (2 * torch.pi / vertices) - torch.pi / 2
    return 128 + radius * torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)


@pytest.mark.parametrize("radius", [9, 20, 45, 90])
def test_a_traced_circle_is_filled_as_it_was(grid, radius):
    mask = draw_circle(grid, row=120.3, column=131.8, radius=radius)
    ring = rings.trace_mask(mask)
    assert ring.shape == (rings.VERTICES, 2)
    assert overlap(mask, rings.cover_pixels(ring, mask.shape) > 0.5) >= 0.98


def test_a_concave_shape_is_filled_as_it_was(grid):
    mask = draw_crescent(grid)
    ring = rings.trace_mask(mask)
    assert overlap(mask, rings.cover_pixels(ring, mask.shape) > 0.5) >= 0.98


def test_contours_of_coarse_logits_lie_where_the_labels_do(grid):
    endo = draw_circle(grid, row=120, column=120, radius=30)
    epi = draw_circle(grid, row=120, column=120, radius=45)
    atrium = draw_circle(grid, row=210, column=125, radius=25) & ~epi
    labels = np.where(endo, 1, np.where(epi, 2, np.where(atrium, 3, 0)))
    chances = torch.nn.functional.one_hot(torch.from_numpy(labels), 4).movedim(-1, 0).float()
    coarse = torch.nn.functional.avg_pool2d(chances[None], 2)[0].numpy()
    scores = rings.draw_scores(rings.trace_logits(coarse), (SIDE // 2, SIDE // 2))
    assert scores.sum(axis=0) == pytest.approx(1, abs=1e-6)
    # The ring between the first two is 7 pixels thick here, and a tenth of one is lost.
    for value in range(4):
        assert overlap(scores.argmax(axis=0) == value, coarse.argmax(axis=0) == value) > 0.96


def test_nothing_is_traced_of_an_empty_mask():
    assert rings.trace_mask(np.zeros((32, 32), bool)) is None


def test_distances_run_to_edges_and_have_the_gradient_of_a_distance():
    square = torch.tensor([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
    points = torch.tensor([[5.0, -3.0], [13.0, 14.0], [5.0, 5.0]], requires_grad=True)
    found = graph.measure_distance(points, square)
    assert found.tolist() == pytest.approx([3, 5, 5], abs=1e-3)
    found[0].backward()
    assert points.grad[0].tolist() == pytest.approx([0, -1], abs=1e-3)


def test_every_weight_of_the_graph_head_has_a_gradient_once_it_moves():
    torch.manual_seed(0)
    head = graph.GraphHead(channels=4, classes=4, width=8)
    torch.nn.init.normal_(head.move.weight)
    begin = make_circle(40).expand(2, 3, -1, -1)
    found = head(begin, torch.randn(2, 4, 64, 64), torch.randn(2, 4, 128, 128))
    assert found.shape == (graph.PASSES, 2, 3, rings.VERTICES, 2)
    known = torch.ones(2, 3, dtype=torch.bool)
    graph.find_loss(found, begin + 2, begin, known).backward()
    for name, weight in head.named_parameters():
        assert weight.grad.abs().sum() > 0, name


def test_a_new_graph_head_moves_nothing():
    head = graph.GraphHead(channels=4)
    begin = make_circle(40).expand(1, 3, -1, -1)
    found = head(begin, torch.randn(1, 4, 64, 64), torch.randn(1, 4, 128, 128))
    assert torch.equal(found[-1], begin)


def test_a_graph_head_learns_to_follow_an_edge():
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(*[torch.arange(64) * 4 + 2.0] * 2, indexing="ij")
    gap = ((rows - 128).square() + (columns - 128).square()).sqrt() - 50
    features, logits = (gap / 8).tanh()[None, None], torch.zeros(1, 4, 128, 128)
    head = graph.GraphHead(channels=1, width=8)
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)
    truth, known = make_circle(50).expand(1, 3, -1, -1), torch.ones(1, 3, dtype=torch.bool)
    for step in range(60):
        begin = make_circle(44 + 12 * (step % 2)).expand(1, 3, -1, -1)
        loss = graph.find_loss(head(begin, features, logits), truth, begin, known)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved = head(make_circle(53).expand(1, 3, -1, -1), features, logits)[-1]
    assert graph.measure_distance(moved, truth).mean() < 1.5


def test_rings_are_linked_around_and_with_each_other():
    layer = graph.RingConvolution(4, reach=2)
    x = torch.randn(1, 3, 16, 4, requires_grad=True)
    layer(x)[0, 1, 0].sum().backward()
    seen = x.grad[0].abs().sum(dim=-1)
    assert (seen[1, [14, 15, 0, 1, 2]] > 0).all()
    assert seen[0, 0] > 0
    assert seen[2, 0] > 0
    turned = layer(torch.roll(x, 5, dims=2))
    assert torch.allclose(turned, torch.roll(layer(x), 5, dims=2), atol=1e-5)


def test_disturbed_contours_stay_smooth():
    torch.manual_seed(0)
    moves = training.disturb(make_circle(40).expand(2, 3, -1, -1))
    assert moves.shape == (2, 3, rings.VERTICES, 2)
    steps = (torch.roll(moves, -1, dims=2) - moves).norm(dim=-1)
    assert steps.max() < 0.5 * moves.norm(dim=-1).max()


def test_mask_and_noise_share_the_state():
    time = torch.linspace(0, 1, 11)
    mask_part, noise_part = diffusion.find_signal(time)
    assert torch.allclose(mask_part.square() + noise_part.square(), torch.ones(11))
    state, noise = torch.randn(2, 11, 4, 8, 8)
    noisy = diffusion.add_noise(state, noise, time)
    assert torch.allclose(noisy[0], state[0])
    assert torch.allclose(noisy[-1], noise[-1], atol=1e-6)


def test_a_step_back_has_the_statistics_of_the_earlier_time():
    torch.manual_seed(0)
    time, before = torch.tensor(0.8), torch.tensor(0.3)
    clean = torch.full((1, 1, 400, 400), 0.25)
    state = diffusion.add_noise(clean, torch.randn_like(clean), time[None])
    found = diffusion.step_back(state, clean, torch.randn_like(clean), time=time, before=before)
    mask_part, noise_part = diffusion.find_signal(before)
    assert found.mean() == pytest.approx(float(mask_part) * 0.25, abs=0.01)
    assert found.std() == pytest.approx(float(noise_part), rel=0.01)


def test_every_weight_of_the_diffusion_head_has_a_gradient_once_it_answers():
    torch.manual_seed(0)
    head = diffusion.DiffusionHead(channels=4, width=8)
    for name, weight in head.named_parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.1)
        assert weight.any(), name
    truth = torch.randint(0, 4, (2, 64, 64))
    loss = diffusion.find_loss(head, torch.randn(2, 4, 16, 16), torch.randn(2, 4, 32, 32), truth)
    loss.backward()
    for name, weight in head.named_parameters():
        assert weight.grad.abs().sum() > 0, name


def test_a_new_diffusion_head_answers_as_the_network():
    head = diffusion.DiffusionHead(channels=4, width=8).eval()
    features, logits = torch.randn(1, 4, 16, 16), torch.randn(1, 4, 32, 32)
    drawn = diffusion.draw_masks(head, features, logits, samples=3, steps=2, start=1.0)
    assert drawn.shape == (3, 4, 32, 32)
    assert torch.allclose(drawn, logits.softmax(dim=1).expand_as(drawn), atol=1e-5)
    assert compare_draws(drawn.numpy(), logits[0].numpy()) == pytest.approx(1)


def test_draws_that_differ_agree_less():
    logits = np.zeros((2, 8, 8), np.float32)
    logits[1, :4] = 1
    full, half = logits, logits.copy()
    half[1, 2:4] = -1
    agreed = compare_draws(np.stack([full, half]), logits)
    assert agreed[:, 0] == pytest.approx([(1 + 2 / 3) / 2, 2 / 3])


def test_outlines_turn_once_if_convex_and_more_if_dented(grid):
    circle = draw_circle(grid, row=128, column=128, radius=50)
    assert shape.find_turns(circle) == pytest.approx(1, abs=0.25)
    assert shape.find_turns(draw_crescent(grid)) > 1.5


def test_a_contour_takes_fewer_bytes_than_its_mask(grid):
    mask = draw_crescent(grid)
    contour = shape.count_contour_bytes([rings.trace_mask(mask)])
    assert 64 < contour < shape.count_mask_bytes(mask.astype(np.uint8))
