import numpy as np
import pytest

from bedside.spec import AugmentSpec
from bedside.training.batches import Batches
from bedside.training.example import Example
from bedside.training.patches import PatchSampler, cut, cut_middle

SIZE = (8, 10, 6)


def make_scan(shape=(30, 24, 20)):
    """A large structure, and a small one of 0.2 % of the voxels."""
    truth = np.zeros(shape, np.uint8)
    truth[:12] = 1
    truth[22:25, 15:18, 14:17] = 2
    image = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    return Example(image, truth)


def middle_label(patch):
    """The label that the voxel has which the patch was drawn around."""
    middle = cut_middle(patch.truth, SIZE)
    return int(middle[tuple(side // 2 for side in SIZE)])


def draw_many(example, foreground, count=300):
    sampler = PatchSampler([example], SIZE, foreground)
    return [sampler.draw(0, np.random.default_rng((0, number))) for number in range(count)]


def test_small_structures_are_in_the_middle_as_often_as_large_ones():
    patches = draw_many(make_scan(), foreground=1.0)
    labels = [middle_label(patch) for patch in patches]
    # Patches are kept inside the scan, so that a few middles are moved off their structure.
    assert abs(labels.count(2) - 150) < 40
    assert labels.count(1) + labels.count(2) > 250
    anywhere = [middle_label(patch) for patch in draw_many(make_scan(), foreground=0.0)]
    assert anywhere.count(2) < 15


def test_a_patch_is_a_piece_of_the_scan_with_image_and_truth_in_step():
    example = make_scan()
    tagged = Example(np.stack([example.truth.astype(np.float32)] * 2), example.truth)
    for patch in draw_many(tagged, foreground=0.5, count=30):
        assert (patch.image == patch.truth).all()
        inner = cut_middle(patch.truth, SIZE)
        assert inner.shape == SIZE
        assert patch.truth.shape == tuple(side + 2 * round(0.15 * side) for side in SIZE)


def test_the_patch_itself_never_leaves_a_scan_that_is_large_enough():
    full = Example(np.ones((1, 30, 24, 20), np.float32), np.ones((30, 24, 20), np.uint8))
    for patch in draw_many(full, foreground=0.5, count=50):
        assert cut_middle(patch.truth, SIZE).all()


def test_a_scan_smaller_than_a_patch_lies_in_its_middle():
    small = Example(np.ones((1, 4, 30, 6), np.float32), np.ones((4, 30, 6), np.uint8))
    patch = cut_middle(draw_many(small, foreground=1.0, count=1)[0].truth, SIZE)
    assert patch.any(axis=(1, 2)).astype(int).tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_a_scan_without_structures_gives_patches_all_the_same():
    empty = Example(np.zeros((1, 9, 12, 7), np.float32), np.zeros((9, 12, 7), np.uint8))
    assert len(draw_many(empty, foreground=1.0, count=3)) == 3


def test_an_example_of_the_patchs_size_is_given_as_it_is():
    example = Example(np.zeros((1, *SIZE), np.float32), np.zeros(SIZE, np.uint8))
    assert PatchSampler([example], SIZE).draw(0, np.random.default_rng(0)) is example


@pytest.mark.parametrize("shape", [(5,), (4, 6), (3, 4, 5)])
def test_cutting_beyond_an_array_fills_up(shape):
    array = np.ones((2, *shape))
    grown = cut(array, [-1] * len(shape), [size + 2 for size in shape])
    assert grown.shape == (2, *(size + 3 for size in shape))
    assert grown.sum() == array.sum()
    assert (cut_middle(grown, [size + 1 for size in shape]) >= 0).all()
    assert not cut(array, [-9] * len(shape), [-5] * len(shape)).any()


def make_batches(**changes):
    examples = [make_scan(), make_scan((20, 20, 20)), make_scan((30, 20, 22))]
    return Batches(examples, AugmentSpec(elastic_px=1.0), size=2, patch=SIZE, **changes)


def test_batches_of_patches_are_of_one_size_and_the_same_again_and_with_workers():
    drawn = [
        list(batches.epoch(3))
        for batches in (make_batches(), make_batches(), make_batches(workers=2))
    ]
    other = list(make_batches().epoch(4))
    for images, truths in drawn[0]:
        assert images.shape == (2, 2, *SIZE)
        assert truths.shape == (2, *SIZE)
    for again in drawn[1:]:
        assert len(again) == len(drawn[0]) == 1
        for one, two in zip(drawn[0], again, strict=True):
            assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert (other[0][0] != drawn[0][0][0]).any()


def test_several_patches_of_a_scan_make_an_epoch_longer_and_differ():
    batches = make_batches(repeats=4)
    images = [image for images, _ in batches.epoch(0) for image in images.numpy()]
    assert len(batches) == 6
    assert len(images) == 12
    assert len({image.tobytes() for image in images}) == 12


def test_without_variation_a_patch_is_what_was_cut():
    still = AugmentSpec(
        rotate_deg=0, log2_scale=(0, 0), log2_aspect=0, shift=0, gamma_log2=(0, 0), gain=(1, 1),
        depth_gain=0, speckle=0, blur_px=0, fan_cut=0, compress=0,
    )  # fmt: skip
    example = make_scan()
    batches = Batches([example], still, size=1, patch=SIZE)
    for epoch in range(5):
        images, truths = next(batches.epoch(epoch))
        patch = PatchSampler([example], SIZE).draw(0, np.random.default_rng((0, epoch, 0)))
        assert (truths[0].numpy() == cut_middle(patch.truth, SIZE)).all()
        assert np.allclose(images[0].numpy(), cut_middle(patch.image, SIZE), atol=1e-4)
