from datetime import UTC, datetime

import pytest
from pydicom import Dataset

from bedside.io.dicom.datetimes import read_moment


def make_header(**tags):
    header = Dataset()
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    return header


def test_an_image_s_own_moment_is_the_most_exact_that_it_tells():
    header = make_header(StudyDate="20200102", AcquisitionDate="20200103")
    header.AcquisitionTime = "101112.25"
    assert read_moment("source", header) == ("20200103", "101112")


def test_a_date_without_a_time_is_midnight():
    assert read_moment("source", make_header(StudyDate="20200102")) == ("20200102", "000000")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("day", ["", "20201301", "2020.01.02", "soon"])
def test_what_is_no_date_is_passed_over(day):
    header = make_header(ContentDate=day, SeriesDate="20200102", SeriesTime="2561")
    assert read_moment("source", header) == ("20200102", "000000")
    assert read_moment("source", make_header(ContentDate=day)) == ("19700101", "000000")


def test_now_is_today_and_a_moment_is_itself():
    before = datetime.now(tz=UTC).astimezone().strftime("%Y%m%d")
    assert before <= read_moment("now", Dataset())[0]
    moment = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    assert read_moment(moment, Dataset()) == ("20010909", "014640")
