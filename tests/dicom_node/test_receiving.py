"""Images come in from dcmtk's storescu: stored once, or refused with the right status."""

import threading

import pytest
from pydicom import Dataset
from pynetdicom import AE, build_role

from bedside.dicom_node.contexts import COMMITMENT
from bedside.dicom_node.sending.commitment import PUSH_MODEL_INSTANCE
from bedside.dicom_node.sending.delivery import Presence
from bedside.dicom_node.series import COMPLETE, KIND, RECEIVED, Series
from dicom_node_for_tests import is_listening, run_peer, send, wait_for, write_cine, write_scan
from raw_dicom_for_tests import DATA, RawPeer, make_echo


@pytest.fixture
def node(receive):
    return receive()


def series_of(node, *states):
    return node.store.list(KIND, states)


def images_of(node, job):
    return sorted((node.store.folder(job) / "images").iterdir())


def test_echo(node):
    code, text = run_peer("echoscu", "-aec", "BEDSIDE", *node.address)
    assert code == 0, text


def test_a_query_is_not_accepted(node):
    query = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID"]
    code, text = run_peer("findscu", *query, "-aec", "BEDSIDE", *node.address)
    assert code != 0
    assert "No Acceptable Presentation Contexts" in text


def test_who_is_not_listed_and_who_calls_another_are_rejected(receive, tmp_path):
    node = receive(calling_ae_titles=("CT1",), require_called_ae_title=True)
    path = write_cine(tmp_path / "cine.dcm")
    assert "Calling AE Title Not Recognized" in send(node.address, path, sender="CT2")[1]
    assert "Called AE Title Not Recognized" in send(node.address, path, sender="CT1", title="X")[1]
    assert send(node.address, path, sender="CT1")[0]


def test_a_film_is_complete_once_its_association_is_released(node, tmp_path):
    path = write_cine(tmp_path / "cine.dcm")
    is_sent, text = send(node.address, path)
    assert is_sent, text

    (job,) = wait_for(lambda: series_of(node, COMPLETE))
    series = Series.from_payload(job.payload)
    assert (series.modality, series.images, series.calling_ae) == ("US", 1, "STORESCU")
    assert job.reason == "1 image, each with all its frames"
    (image,) = images_of(node, job)
    assert image.read_bytes()[-4000:] == path.read_bytes()[-4000:]


def test_slices_wait_until_all_are_there_that_the_header_names(node, tmp_path):
    def name_count(dataset, _index):
        dataset.NumberOfSeriesRelatedInstances = 5

    paths = write_scan(tmp_path / "scan", slices=5, edit=name_count)
    assert send(node.address, *paths[:3])[0]
    (job,) = series_of(node)
    assert (job.state, len(images_of(node, job))) == (RECEIVED, 3)

    assert send(node.address, *paths[2:])[0]  # one comes again
    (job,) = wait_for(lambda: series_of(node, COMPLETE))
    assert len(images_of(node, job)) == 5
    assert job.reason == "the header names 5 images"


def test_another_image_with_the_same_uid_is_refused_and_the_first_stays(node, tmp_path):
    first, other = (write_scan(tmp_path / str(seed), slices=1, seed=seed)[0] for seed in (1, 2))
    assert send(node.address, first)[0]
    (job,) = series_of(node)
    before = images_of(node, job)[0].read_bytes()

    is_sent, text = send(node.address, other, options=["-v"])
    assert not is_sent or "0x0111" in text, text
    assert send(node.address, first)[0]
    assert images_of(node, job)[0].read_bytes() == before


def test_a_server_that_ends_lets_associations_finish_and_takes_no_new_ones(receive, tmp_path):
    server = receive()
    with RawPeer(server.address) as peer:
        peer.associate()
        ending = threading.Thread(target=lambda: server.close(patience_s=60))
        ending.start()
        wait_for(lambda: not is_listening(server.address))
        peer.send(make_echo())
        assert peer.read()[0] == DATA
    ending.join(60)
    assert not ending.is_alive()


def test_reports_of_storage_commitment_are_taken_on_an_association_of_the_archive(receive):
    reports = []
    server = receive(receive_report=lambda uid, found: reports.append((uid, found.presence)))
    archive = AE(ae_title="ARCHIVE")
    archive.add_requested_context(COMMITMENT)
    role = build_role(COMMITMENT, scp_role=True)
    association = archive.associate(*server.address, ext_neg=[role])
    assert association.is_established
    report = Dataset()
    report.TransactionUID = "1.2.3"
    status, _ = association.send_n_event_report(report, 1, COMMITMENT, PUSH_MODEL_INSTANCE)
    association.release()
    assert status.Status == 0
    assert reports == [("1.2.3", Presence.PRESENT)]
