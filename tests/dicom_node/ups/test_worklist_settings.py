"""The table [worklist] is read strictly, and its performers work."""

import threading

import pytest

from bedside.dicom_node.sending.destination import DicomDestination
from bedside.dicom_node.ups.config import WorklistSettings
from bedside.dicom_node.ups.service import open_performers
from bedside.errors import NoModelError, SpecError
from bedside.serve.check import check_settings
from bedside.serve.config import read_settings
from dicom_node_for_tests import write_cine
from servers_for_tests import open_engine
from ups_for_tests import make_work_item

CONFIG = """
state = "{folder}"
[worklist]
url = "https://pacs/dicom-web"
query = {{WorklistLabel = "AI"}}
models = {{"121726^DCM" = "camus-4ch"}}
[worklist.archive]
name = "pacs"
host = "pacs"
port = 104
ae_title = "PACS"
"""


def test_a_configuration_has_a_worklist(tmp_path):
    (path := tmp_path / "serve.toml").write_text(CONFIG.format(folder=tmp_path))
    settings = read_settings(path)
    assert settings.worklist.models == {"121726^DCM": "camus-4ch"}
    assert settings.worklist.destinations[0].ae_title == "PACS"
    lines, is_sound = check_settings(settings)
    assert is_sound
    assert any("https://pacs/dicom-web" in line for line in lines)
    path.write_text(CONFIG.replace('state = "{folder}"', "").format(folder=""))
    with pytest.raises(SpecError, match="state"):
        read_settings(path)


@pytest.mark.parametrize(
    "changes",
    [{"archive": None}, {"models": {}}, {"at_once": 0}, {"look_s": 0.0}, {"ae_title": "A B"}],
)
def test_settings_that_cannot_work_are_refused(changes):
    good = {"archive": DicomDestination("a", "h", 104, "A"), "models": {"*": "m"}}
    with pytest.raises(SpecError):
        WorklistSettings("https://pacs", **(good | changes))


def test_performers_of_a_configuration_complete_a_work_item(ups, archive, tmp_path):
    image = write_cine(tmp_path / "cine.dcm")
    ups.schedule(make_work_item("1.2.1", [image]), [image])
    settings = WorklistSettings(
        ups.url,
        {"*": "plane"},
        archive=DicomDestination("pacs", "127.0.0.1", archive.port, "ARCHIVE"),
        look_s=0.1,
    )
    completed = threading.Event()

    def note(job):
        if job.state == "completed":
            completed.set()

    (models := tmp_path / "models").mkdir()
    with open_engine(models) as engine:
        with open_performers(settings, engine, tmp_path / "state", on_step=note) as performers:
            performers.start()
            assert completed.wait(120)
        unknown = WorklistSettings(ups.url, {"*": "none"}, archive=settings.archive)
        with pytest.raises(NoModelError), open_performers(unknown, engine, tmp_path / "other"):
            pass
    assert ups.completions["1.2.1"] == 1
    assert len(archive.kept) == 1
