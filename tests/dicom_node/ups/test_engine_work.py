"""A work item is segmented by the engine as its image would be alone."""

import pytest
from pydicom import dcmread

from bedside.dicom_node.sending.destination import WebDestination
from bedside.dicom_node.ups.engine_work import EngineWork
from bedside.dicom_node.ups.inputs import ImageService
from bedside.dicom_node.ups.performer import Performer, PerformerSettings
from bedside.dicom_node.ups.ups_rs import WebWorklist, WorklistService
from bedside.dicom_node.ups.work_item import read_work_item
from bedside.errors import InputError
from dicom_node_for_tests import write_cine
from servers_for_tests import open_engine
from ups_for_tests import make_work_item


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("models")) as opened:
        yield opened


def test_the_seg_of_a_work_item_is_that_of_its_image(ups, store, sender, archive, engine, tmp_path):
    image = write_cine(tmp_path / "cine.dcm", frames=6)
    ups.schedule(make_work_item("1.2.1", [image]), [image])
    work = EngineWork(engine, {"1^99TEST": "plane"})
    worklist = WebWorklist(WorklistService(ups.url))
    images = ImageService(WebDestination("images", ups.url))
    settings = PerformerSettings("pacs", wants=work.wants)
    performer = Performer(store, worklist, images, sender, work, settings)
    job = None
    while job is None or job.state not in ("completed", "failed"):
        job = performer.step(wait_s=1)
    worklist.close()
    images.close()
    assert job.state == "completed", job.reason
    (path,) = (store.folder(job) / "results").rglob("*.dcm")
    direct = engine.segment("plane", image).to_bytes("dicom-seg", moment="source")
    assert path.read_bytes() == direct
    assert set(archive.kept) == {dcmread(path).SOPInstanceUID}


def test_a_model_is_chosen_by_code_then_label_then_for_any(engine, tmp_path):
    image = write_cine(tmp_path / "cine.dcm")
    dataset = make_work_item("1.2.1", [image])
    dataset.WorklistLabel = "AI"
    item = read_work_item(dataset)
    assert EngineWork(engine, {"1^99TEST": "a", "AI": "b", "*": "c"}).find_model(item) == "a"
    assert EngineWork(engine, {"2^99TEST": "a", "AI": "b", "*": "c"}).find_model(item) == "b"
    assert EngineWork(engine, {"*": "c"}).find_model(item) == "c"
    assert not EngineWork(engine, {"2^99TEST": "a"}).wants(item)


def test_a_series_without_an_image_is_refused(engine, tmp_path):
    item = read_work_item(make_work_item("1.2.1", [write_cine(tmp_path / "cine.dcm")]))
    (folder := tmp_path / "inputs" / "0").mkdir(parents=True)
    (folder / "note.dcm").write_bytes(b"no image")
    with pytest.raises(InputError):
        EngineWork(engine, {"*": "plane"})(item, tmp_path / "inputs", tmp_path, lambda part: None)
