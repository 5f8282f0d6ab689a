import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bedside.datasets import list_cases
from bedside.spec import Grey
from bedside.training.batches import to_batch
from bedside.training.cache import load_cached, name_entry
from bedside.training.dataset import load_case, load_cases
from makers import make_fan, make_labels, write_nifti

pytest_plugins = ["training_fixtures"]


@pytest.fixture
def case(tmp_path):
    folder = tmp_path / "data" / "patient0001"
    folder.mkdir(parents=True)
    for phase in ("ED", "ES"):
        write_nifti(make_fan(1)[0].T, folder / f"patient0001_4CH_{phase}.nii.gz")
        truth = np.minimum(make_labels(1), 2)[0]
        write_nifti(truth.T, folder / f"patient0001_4CH_{phase}_gt.nii.gz")
    return list_cases(tmp_path / "data", "camus")[0]


def test_a_cached_case_is_the_case_to_half_precision_and_is_read_once(recipe, case, tmp_path):
    spec, reads = recipe.deployment, []

    def load(case, spec):
        reads.append(case.case_id)
        return load_case(case, spec)

    plain = load_case(case, spec)
    first, second = (
        load_cached(case, spec, folder=tmp_path / "cache", load=load) for _ in range(2)
    )
    assert len(reads) == 1
    for expected, one, two in zip(plain, first, second, strict=True):
        assert (one.truth == expected.truth).all()
        assert np.abs(one.image - expected.image).max() <= 2**-12
        assert (one.image == two.image).all()
        assert isinstance(two.image, np.memmap)


def test_another_file_or_another_step_is_another_entry(recipe, case):
    spec = recipe.deployment
    name = name_entry(case, spec)
    assert name_entry(case, dataclasses.replace(spec, name="other", postprocess=())) == name
    steps = dataclasses.replace(spec, preprocess=(Grey(), *spec.preprocess))
    assert name_entry(case, steps) != name
    assert name_entry(dataclasses.replace(case, case_id="other"), spec) != name
    status = case.truth.stat()
    os.utime(case.truth, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert name_entry(case, spec) != name


def test_an_entry_without_its_list_is_written_anew(recipe, case, tmp_path):
    spec, folder = recipe.deployment, tmp_path / "cache"
    load_cached(case, spec, folder=folder, load=load_case)
    next(folder.glob("*.json")).unlink()
    next(folder.glob("*image.npy")).write_bytes(b"half of a fi")
    again = load_cached(case, spec, folder=folder, load=load_case)
    assert np.abs(again[0].image - load_case(case, spec)[0].image).max() <= 2**-12


def test_several_at_a_time_write_the_same_entry_whole(recipe, case, tmp_path):
    spec, folder = recipe.deployment, tmp_path / "cache"
    with ThreadPoolExecutor(4) as pool:
        loaded = list(
            pool.map(lambda _: load_cached(case, spec, folder=folder, load=load_case), range(8))
        )
    assert all((examples[0].image == loaded[0][0].image).all() for examples in loaded)
    assert not [path for path in folder.iterdir() if path.name.startswith(".part-")]


def test_cached_examples_make_batches(recipe, case, tmp_path):
    examples = load_cases([case], recipe.deployment, cache=tmp_path)
    images, _ = to_batch(examples)
    assert images.dtype.is_floating_point
    assert str(images.dtype) == "torch.float32"
