"""The table [dicom] is read strictly, and `--check` says what is missing for it."""

from pathlib import Path

import pytest

from bedside.dicom_node.config import DicomSettings, PeerLimits, Route
from bedside.dicom_node.routing import find_route
from bedside.dicom_node.series import Series
from bedside.errors import SpecError
from bedside.serve.check import check_settings
from bedside.serve.config import ServeSettings
from bedside.spec.reading import from_mapping


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"prot": 104}, 'unknown key "prot". Did you mean "port"?'),
        ({"host": "0.0.0.0"}, "AE titles are no passwords"),
        ({"ae_title": "LONGER THAN 16 LETTERS"}, "is no AE title"),
        ({"settle_s": 0}, "settle_s is 0.0"),
        ({"limits": {"half_open": 0}}, "half_open is 0"),
        ({"limits": {"pdu_bytes": 100}}, "pdu_bytes is 100"),
        ({"route": [{"model": "a", "send_to": ["pacs"]}]}, 'sends to "pacs"; there is: no archive'),
        ({"sender": [{"calling_ae": "CT"}]}, "state its host"),
        ({"sender": [{"calling_ae": "CT", "method": "qido"}]}, "state its url"),
        ({"sender": [{"calling_ae": "CT", "method": "guess"}]}, "choose one of"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(table, message):
    with pytest.raises(SpecError) as error:
        from_mapping(DicomSettings, table)
    assert message in str(error.value)


def test_a_table_is_read_with_its_paths_and_archives():
    settings = from_mapping(
        DicomSettings,
        {
            "host": "10.0.0.1",
            "calling_ae_titles": ["CT1"],
            "output": "results",
            "limits": {"associations": 3},
            "route": [{"model": "a", "send_to": ["web"]}],
            "archive": [{"name": "pacs", "host": "pacs", "port": 104, "ae_title": "PACS"}],
            "web_archive": [{"name": "web", "url": "https://pacs/dicom-web"}],
        },
    )
    assert settings.output == Path("results")
    assert settings.limits == PeerLimits(associations=3)
    assert [each.name for each in settings.archives] == ["pacs", "web"]


def test_a_node_needs_a_folder():
    with pytest.raises(SpecError, match="name a folder"):
        ServeSettings(dicom=DicomSettings())


def test_check_names_what_is_missing_for_the_node():
    dicom = DicomSettings(route=(Route("camus-4ch"), Route("no-such-model")))
    lines, is_sound = check_settings(ServeSettings(dicom=dicom, state=Path("state")))
    assert not is_sound
    assert any('MISSING model "no-such-model" of a route' in line for line in lines)


@pytest.mark.parametrize(
    ("route", "fits"),
    [
        (Route("a"), True),
        (Route("a", modality="us"), True),
        (Route("a", modality="US", description="*4ch*"), True),
        (Route("a", description="4ch"), False),
        (Route("a", station="ECHO?"), True),
        (Route("a", station="ECHO??"), False),
        (Route("a", body_part="HEART"), False),
        (Route("a", calling_ae="CT*"), False),
        (Route("a", called_ae="bedside"), True),
    ],
)
def test_routes_fit_by_patterns_without_regard_to_case(route, fits):
    series = Series(
        modality="US", description="A4CH view", station="ECHO1", calling_ae="US1",
        called_ae="BEDSIDE",
    )  # fmt: skip
    assert (find_route(series, [route]) is route) == fits
    assert find_route(series, [route, Route("b")]).model == ("a" if fits else "b")
