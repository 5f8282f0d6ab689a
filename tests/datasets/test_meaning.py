"""Labels and channels that a data set and a bundle both name."""

import json
from types import SimpleNamespace

import pytest

from bedside.datasets import list_cases, relabel_for
from bedside.datasets.meaning import is_alike
from bedside.errors import DataError
from bedside.spec import read_recipe
from layout_makers import make_msd, make_nnunet


@pytest.mark.parametrize(
    ("name", "other", "expected"),
    [
        ("Anterior", "Anterior hippocampus", True),
        ("anterior_hippocampus", "Anterior hippocampus", True),
        ("oedema", "Edema", True),
        ("necrotic core", "Enhancing tumour", False),
        ("non_enhancing tumor", "Enhancing tumour", False),
        ("", "Enhancing tumour", False),
    ],
)
def test_names_are_alike(name, other, expected):
    assert is_alike(name, other) is is_alike(other, name) is expected


def test_the_halves_of_the_hippocampus_are_not_exchanged(tmp_path):
    spec = read_recipe("hippocampus").deployment
    folder = make_msd(tmp_path, name="Hippocampus")
    assert relabel_for(list_cases(folder), {}, spec=spec)
    index = json.loads((folder / "dataset.json").read_text())
    index["labels"] = {"0": "background", "1": "Posterior", "2": "Anterior"}
    (folder / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r'"Posterior", which is label 2 .* 1=2,2=1 '):
        relabel_for(list_cases(folder), {}, spec=spec)
    assert relabel_for(list_cases(folder), {"1": 2, "2": 1}, spec=spec)
    # Names that say nothing of ours are no reason to refuse.
    index["labels"] = {"0": "background", "1": "head", "2": "tail"}
    (folder / "dataset.json").write_text(json.dumps(index))
    assert relabel_for(list_cases(folder), {}, spec=spec)


def test_channels_in_another_order_are_refused(tmp_path):
    names = SimpleNamespace(channel_names=("t2", "t1"))
    spec = SimpleNamespace(labels=read_recipe("hippocampus").deployment.labels, input=names)
    cases = list_cases(make_nnunet(tmp_path))
    with pytest.raises(DataError, match="are T1, T2; expected t2, t1"):
        relabel_for(cases, {}, spec=spec)
    names.channel_names = ("t1", "t2")
    assert relabel_for(cases, {}, spec=spec)
