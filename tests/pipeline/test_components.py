import numpy as np
import pytest
from scipy import ndimage

import bedside.system.parallel
from bedside.pipeline import components
from bedside.pipeline.components import find_components

STRUCTURES = {6: ndimage.generate_binary_structure(3, 1), 26: np.ones((3, 3, 3), bool)}


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6, 1.0])
@pytest.mark.parametrize(("thickness", "workers"), [(1, 1), (2, 2), (5, 3), (100, 1)])
def test_components_are_those_of_the_map_as_a_whole(
    monkeypatch, connectivity, share, thickness, workers
):
    shape = (9, 11, 13)
    monkeypatch.setattr(components, "SLAB_VOXELS", workers * thickness * 11 * 13)
    # Runs are looked for in a part of a slab.
    monkeypatch.setattr(components, "_RUN_VOXELS", 2 * 11 * 13)
    for module in (components, bedside.system.parallel):
        monkeypatch.setattr(module, "count_workers", lambda: workers)
    rng = np.random.default_rng(int(10 * share))
    labels = ((rng.random(shape) < share) * rng.integers(1, 4, shape)).astype(np.uint8)
    found = find_components(lambda slab: labels[slab], shape, connectivity=connectivity)
    expected = []
    for value in (1, 2, 3):
        parts, count = ndimage.label(labels == value, STRUCTURES[connectivity])
        for part in range(1, count + 1):
            mask = parts == part
            inner = mask[1:-1, 1:-1, 1:-1].sum()
            expected.append((value, int(mask.sum()), bool(inner < mask.sum()), mask.tobytes()))
    seen = []
    for index in range(len(found.sizes)):
        mask = np.zeros(shape, bool)
        for slab, part in found.select(np.arange(len(found.sizes)) == index):
            mask[slab] = part >= 0
            assert set(np.unique(part)) <= {-1, index}
        seen.append(
            (
                int(found.values[index]),
                int(found.sizes[index]),
                bool(found.on_border[index]),
                mask.tobytes(),
            )
        )
    assert sorted(seen) == sorted(expected)
