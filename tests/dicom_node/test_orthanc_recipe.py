"""The Orthanc recipe of docs/deploy.md, as it stands there, in a network namespace."""

from pathlib import Path

from orthanc_for_tests import run_inside


def test_a_series_that_orthanc_forwards_comes_back_as_a_seg():
    run_inside(Path(__file__).with_name("inside_orthanc_recipe.py"))
