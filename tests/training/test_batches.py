import numpy as np
import pytest
import torch

from bedside.errors import SpecError
from bedside.spec import AugmentSpec
from bedside.training.batches import Batches, to_batch
from bedside.training.example import Example


def make_examples(count=10, channels=1):
    rng = np.random.default_rng(0)
    return [
        Example(
            rng.random((channels, 16, 20), dtype=np.float32),
            rng.integers(0, 3, (16, 20)).astype(np.uint8),
        )
        for _ in range(count)
    ]


def draw(batches, epoch=0):
    return [tuple(tensor.numpy() for tensor in batch) for batch in batches.epoch(epoch)]


def test_workers_change_nothing_but_the_time():
    examples = make_examples()
    alone = draw(Batches(examples, AugmentSpec(), size=3, seed=1))
    helped = draw(Batches(examples, AugmentSpec(), size=3, seed=1, workers=2))
    assert len(alone) == len(helped) == 3
    for one, two in zip(alone, helped, strict=True):
        assert (one[0] == two[0]).all()
        assert (one[1] == two[1]).all()


def test_a_share_of_the_images_without_a_structure_is_drawn_another_one_each_epoch():
    full = make_examples(4)
    empty = [
        Example(np.full((1, 16, 20), k / 8, np.float32), np.zeros((16, 20), np.uint8))
        for k in range(8)
    ]
    still = AugmentSpec(0, (0, 0), 0, 0, gamma_log2=(0, 0), gain=(1, 1), depth_gain=0, speckle=0,
                        blur_px=0, fan_cut=0, compress=0)  # fmt: skip
    batches = Batches([*full, *empty], still, size=2, empty_share=0.25)
    drawn = set()
    for epoch in range(12):
        truths = np.concatenate([truth for _, truth in draw(batches, epoch)])
        blank = ~truths.any(axis=(1, 2))
        assert (len(truths), blank.sum()) == (6, 2)
        images = np.concatenate([image for image, _ in draw(batches, epoch)])[blank]
        drawn |= {float(image.max()) for image in images}
    assert len(batches) == 3
    assert len(drawn) > 2


def test_the_shares_of_all_processes_are_the_batch_of_one():
    examples = make_examples()
    whole = draw(Batches(examples, AugmentSpec(), size=4))
    shares = [draw(Batches(examples, AugmentSpec(), size=4, rank=r, ranks=2)) for r in range(2)]
    for number, (images, truths) in enumerate(whole):
        for rank in range(2):
            assert (shares[rank][number][0] == images[rank::2]).all()
            assert (shares[rank][number][1] == truths[rank::2]).all()


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    with pytest.raises(SpecError, match="3 processes cannot share a batch of 4"):
        Batches(make_examples(), AugmentSpec(), size=4, ranks=3)
    with pytest.raises(SpecError, match="2 processes cannot share a batch of 3"):
        Batches(make_examples(3), AugmentSpec(), size=4, ranks=2)


def test_fewer_examples_than_a_batch_make_one_batch():
    batches = Batches(make_examples(3), AugmentSpec(), size=8)
    assert len(batches) == 1
    assert [len(images) for images, _ in draw(batches)] == [3]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_lies_channels_last(channels):
    images, truths = to_batch(make_examples(2, channels))
    assert images.shape == (2, channels, 16, 20)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert truths.dtype == torch.uint8
