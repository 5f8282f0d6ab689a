"""Fixtures that tests of batches share; a module asks for them with `pytest_plugins`.

A bundle whose network is one convolution (whatever is not black is label 1), and cases for it.
"""

from dataclasses import replace

import numpy as np
import pytest

import makers
from bedside.batch.manifest import Case
from bedside.batch.run import plan_batch
from bedside.bundle import write_bundle
from bedside.options import Options, OutputOptions, RunOptions
from bedside.spec import Fit, Grey, ScalePercentile


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    pytest.importorskip("torch")
    from models_for_tests import make_card, make_plain_graph, make_spec, make_split

    weight = np.zeros((3, 1, 2, 2), np.float32)
    weight[1], weight[2] = 1, -1
    path = tmp_path_factory.mktemp("bundle") / "bright.bedside"
    spec = replace(make_spec(), preprocess=(Grey(), Fit(), ScalePercentile()))
    graphs = {"f32": make_plain_graph(weight=weight).SerializeToString()}
    write_bundle(path, spec=spec, card=make_card(), graphs=graphs, split=make_split())
    return path


@pytest.fixture
def plan(bundle, tmp_path):
    """Plan a batch of pictures, each with a square of its own, into `tmp_path / "out"`."""

    def make(names="abc", *, resume=False, **choices):
        cases = []
        for place, name in enumerate(names):
            path = tmp_path / f"{name}.png"
            if not path.exists():
                picture = np.zeros((48, 48), np.uint8)
                picture[10 : 20 + place, 10:30] = 150
                makers.write_picture(picture, path)
            cases.append(Case(name, path))
        return plan_batch(
            cases,
            tmp_path / "out",
            model=bundle,
            options=Options(
                run=RunOptions("auto", "f32", 1),
                output=OutputOptions(with_cost=False, moment="source", **choices),
            ),
            resume=resume,
        )

    return make
