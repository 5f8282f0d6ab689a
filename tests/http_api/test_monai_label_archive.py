"""OHIF names a series by its UID; the server fetches it from the archive that OHIF shows."""

from pathlib import Path

from orthanc_for_tests import run_inside


def test_series_of_orthanc_are_segmented_as_ohif_asks_for_them():
    run_inside(Path(__file__).with_name("inside_orthanc_series.py"))
