"""PDUs and commands against pynetdicom's, and what is not sound."""

import io
import random
import struct

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, build_role
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dsutils import decode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ

from bedside.dicom_node import upper_layer as ul
from bedside.dicom_node.commands import C_STORE, Command, make_answer, read_command
from bedside.dicom_node.contexts import COMMITMENT, VERIFICATION, accepted_syntaxes
from bedside.dicom_node.objects import META_HEAD_BYTES, dataset_offset, make_file_meta
from bedside.errors import FormatError
from raw_dicom_for_tests import make_echo, make_request, make_store

CT = "1.2.840.10008.5.1.4.1.1.2"
BIG_ENDIAN, VIDEO = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.102"


def test_the_answer_to_a_request_is_what_pynetdicom_reads():
    contexts = [
        build_context(CT, [BIG_ENDIAN, ImplicitVRLittleEndian, ExplicitVRLittleEndian]),
        build_context(CT, [VIDEO]),
        build_context("1.2.3.4", [ImplicitVRLittleEndian]),
        build_context(VERIFICATION),
    ]
    request = ul.read_request(make_request(contexts=contexts))
    assert (request.calling_ae, request.called_ae, request.pdu_bytes) == ("RAW", "BEDSIDE", 16384)

    answers = ul.answer_contexts(request, accepted_syntaxes())
    told = A_ASSOCIATE_AC()
    told.decode(ul.make_accept(request, answers, pdu_bytes=131072))
    assert [(each.context_id, each.result) for each in told.presentation_context] == [
        (1, 0), (3, 4), (5, 3), (7, 0)
    ]  # fmt: skip
    assert told.presentation_context[0].transfer_syntax == ImplicitVRLittleEndian
    assert told.user_information.maximum_length == 131072
    assert told.user_information.implementation_class_uid == ul.IMPLEMENTATION_UID


def test_an_archive_may_be_the_scp_of_storage_commitment():
    data = make_request(
        contexts=[build_context(COMMITMENT)], items=[build_role(COMMITMENT, scp_role=True)]
    )
    request = ul.read_request(data)
    answers = ul.answer_contexts(request, accepted_syntaxes(with_reports=True))
    told = A_ASSOCIATE_AC()
    told.decode(ul.make_accept(request, answers, pdu_bytes=16384, performed_by_peer=[COMMITMENT]))
    (role,) = told.user_information.role_selection.values()
    assert (role.uid, role.scu_role, role.scp_role) == (COMMITMENT, False, True)


def test_a_rejection_is_what_pynetdicom_reads():
    told = A_ASSOCIATE_RJ()
    told.decode(ul.make_reject(2, 3, 2))
    assert (told.result, told.source, told.reason_diagnostic) == (2, 3, 2)


def test_a_damaged_request_is_refused_or_understood_and_raises_nothing_else():
    whole, chance, refused = make_request(), random.Random(0), 0
    for _ in range(3000):
        damaged = bytearray(whole[: chance.choice([len(whole), chance.randrange(6, len(whole))])])
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            request = ul.read_request(bytes(damaged))
        except FormatError:
            refused += 1
        else:
            ul.make_accept(request, ul.answer_contexts(request, {}), pdu_bytes=16384)
    assert refused > 1000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(5),
        struct.pack(">IBB", 1, 1, 3),
        struct.pack(">IBB", 2**32 - 1, 1, 3),
        struct.pack(">IBB", 3, 1, 3),
        struct.pack(">IBB", 2, 1, 3) + b"\0",
    ],
)
def test_pieces_that_do_not_fit_their_pdu_are_refused(body):
    with pytest.raises(FormatError):
        list(ul.read_pieces(memoryview(body)))


def test_commands_are_those_of_pynetdicom():
    ((context, control, words),) = ul.read_pieces(memoryview(make_store(b"", uid="1.2.77")[0])[6:])
    command = read_command(bytes(words))
    assert (context, control & 3, command.field, command.has_data) == (3, 3, C_STORE, True)
    assert command.sop_instance == "1.2.77"

    answer = make_answer(command, 0xA700, "no room")
    dataset = decode(io.BytesIO(answer), True, True)
    assert set(C_STORE_RSP().command_set.dir()) <= {*dataset.dir(), "OffendingElement"}
    assert (dataset.Status, dataset.ErrorComment) == (0xA700, "no room")
    assert dataset.MessageIDBeingRespondedTo == command.message_id
    assert dataset.CommandGroupLength == len(answer) - 12


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_command_that_is_cut_off_is_refused(cut):
    words = bytes(next(ul.read_pieces(memoryview(make_echo())[6:]))[2])
    with pytest.raises(FormatError):
        read_command(words[: cut + 1])


def test_a_file_says_what_it_holds(tmp_path):
    meta = make_file_meta(sop_class=CT, sop_instance="1.2.3", syntax=ExplicitVRLittleEndian)
    path = tmp_path / "image.dcm"
    path.write_bytes(meta + b"\x08\x00\x60\x00CS\x02\x00CT")
    dataset = dcmread(path)
    assert dataset.Modality == "CT"
    assert dataset.file_meta.MediaStorageSOPClassUID == CT
    assert dataset.file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert dataset_offset(meta[:META_HEAD_BYTES]) == len(meta)


def test_a_comment_fits_its_element():
    told = make_answer(Command(C_STORE, 1, "1.2", "1.3"), 0xC000, "x" * 99)
    assert len(decode(io.BytesIO(told), True, True).ErrorComment) == 64
