"""Real archives: Debian's Orthanc, and dcmtk. They listen everywhere, so they get a namespace."""

from pathlib import Path

from orthanc_for_tests import run_inside


def test_real_archives_take_results_and_give_them_back_equal():
    run_inside(Path(__file__).with_name("inside_orthanc.py"))
