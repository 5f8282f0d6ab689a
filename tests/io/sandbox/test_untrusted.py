"""Files that are not trusted: the same as others if sound, and a typed error however they kill."""

import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.filewriter import dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian

import bedside
from bedside.errors import FormatError, GeometryError, LimitError, MemoryLimitError
from bedside.io.dicom.options import DicomOptions
from bedside.io.read_options import Limits, ReadOptions
from bedside.io.sandbox import parent as untrusted
from bedside.io.sandbox.parent import find_untrusted, open_untrusted
from bedside.io.source import (
    Algorithm,
    default_format,
    find_sources,
    open_source,
    write_labels,
)
from bedside.system.process_memory import resident_bytes
from bedside.volume import ImageSequence, LabelMap
from dicom_makers import make_slices, write_series
from layout_makers import write_metaimage
from makers import (
    LABELS,
    compress_jpeg,
    make_dicom,
    make_fan,
    make_region,
    write_dicom,
    write_nifti,
    write_picture,
)

pytest_plugins = ["memory_fixtures"]
pytestmark = pytest.mark.usefixtures("in_little_memory")

# A child decodes one small file in 2 s, imports included; a loaded machine takes longer.
PATIENT = Limits(deadline_s=120)
SCAN = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def _make(folder, kind):
    if kind == "cine":
        region = make_region((0, 0, 63, 47))
        tags = {"FrameOfReferenceUID": "1.2.3", "PatientName": "M\u00fcller^J\u00f6rg",
                "SpecificCharacterSet": "ISO_IR 192"}  # fmt: skip
        dataset = make_dicom(make_fan(), regions=[region], tags=tags)
        return write_dicom(compress_jpeg(dataset), folder / "cine.dcm")
    if kind == "scaled":
        path = write_nifti(SCAN.astype("<f4"), folder / "x.nii.gz", spacing_mm=(0.5, 0.8, 2))
        return path
    if kind == "nifti2":
        return write_nifti(SCAN, folder / "x.nii", version=2, codes=(1, 0))
    if kind == "metaimage":
        return write_metaimage(folder / "x.mha", SCAN, spacing=(0.5, 0.75, 2.0))
    if kind == "picture":
        return write_picture(make_fan(1)[0], folder / "x.png")
    return Path(get_testdata_file(kind))


@pytest.mark.parametrize(
    "kind",
    ["cine", "scaled", "nifti2", "metaimage", "picture", "MR_small_bigendian.dcm", "image_dfl.dcm",
     "MR_small_implicit.dcm", "SC_rgb_rle.dcm"],
)  # fmt: skip
def test_a_sound_file_opens_just_as_in_this_process(tmp_path, kind):
    path = _make(tmp_path, kind)
    source, other = open_source(path), open_untrusted(path, limits=PATIENT)
    assert (other.path, other.kind) == (source.path, source.kind)
    plain, far = source.sequence, other.sequence
    for own, theirs in zip(plain, far, strict=True):
        assert own.dtype == theirs.dtype
        assert (own == theirs).all()
    without = {"decode": len, "geometry": None}
    assert replace(plain, **without) == replace(far, **without)
    if plain.geometry is not None:
        assert plain.geometry.shape == far.geometry.shape
        assert (plain.geometry.affine == far.geometry.affine).all()
    frames, _, height, width = plain.shape
    values = (np.arange(frames * height * width) % 4).astype(np.uint8)
    labels = LabelMap(values.reshape(frames, height, width), plain.spacing_mm)
    for name, each in (("own", source), ("far", other)):
        write_labels(
            labels, each, tmp_path / name, labels_spec=LABELS,
            algorithm=Algorithm("a", "1", "0", "source"), format=default_format(each),
        )  # fmt: skip
    if (tmp_path / "own").is_file():
        assert (tmp_path / "own").read_bytes() == (tmp_path / "far").read_bytes()


def test_all_that_a_cine_knows_is_handed_over():
    """A new attribute of `ImageSequence` must go through `handover` too."""
    assert {field.name for field in fields(ImageSequence)} == {
        "shape", "decode", "modality", "spacing_mm", "frame_time_ms", "region", "warnings",
        "geometry", "slice_spacing_mm", "unknown", "third_axis", "default_grid",
        "uneven", "pixel_aspect",
        "frame_starts_ms",
    }  # fmt: skip


@pytest.mark.parametrize("missing", [None, 3])
def test_a_series_opens_there_too_with_what_is_told_of_its_gaps(tmp_path, missing):
    array = np.arange(8 * 5 * 6, dtype=np.uint16).reshape(8, 5, 6)
    datasets = [each for index, each in enumerate(make_slices(array)) if index != missing]
    files = write_series(datasets, tmp_path / "ct")
    dicom = DicomOptions(gaps="interpolate")
    options = {"files": files, "dicom": dicom}
    source = open_source(tmp_path / "ct", **options)
    other = open_untrusted(tmp_path / "ct", limits=PATIENT, **options)
    assert (np.stack(list(source.sequence)) == np.stack(list(other.sequence))).all()
    assert (
        other.sequence.unknown == source.sequence.unknown == (() if missing is None else (missing,))
    )
    assert (other.sequence.geometry.affine == source.sequence.geometry.affine).all()
    assert other.header.frames == source.header.frames
    assert other.header.instances == source.header.instances
    if missing is not None:
        with pytest.raises(GeometryError, match="slice"):
            open_untrusted(tmp_path / "ct", files=files, limits=PATIENT)


def test_a_time_is_selected_there_too(tmp_path):
    array = np.arange(4 * 4 * 2 * 3).reshape(4, 4, 2, 3).astype(np.int16)
    path = write_nifti(array, tmp_path / "x.nii.gz")
    with pytest.raises(FormatError, match=r"x\.nii\.gz holds several images"):
        open_untrusted(path, limits=PATIENT)
    sequence = open_untrusted(path, select={"time": 2}, limits=PATIENT).sequence
    assert (sequence.decode(1)[0] == array[:, :, 1, 1].T).all()


def test_a_folder_is_looked_through_there_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    array = np.arange(8 * 5 * 6, dtype=np.uint16).reshape(8, 5, 6)
    write_series(make_slices(array), tmp_path / "scans" / "ct")
    write_nifti(SCAN, tmp_path / "scans" / "x.nii.gz")
    (tmp_path / "scans" / "words.txt").write_text("Dear colleague")
    found = find_sources(Path("scans"))
    assert len(found.paths) == 2
    assert len(found.skipped) == 1
    assert find_untrusted(Path("scans"), limits=PATIENT) == found
    with pytest.raises(FormatError, match="cannot read gone"):
        find_untrusted(Path("gone"), limits=PATIENT)


def test_no_header_of_a_folder_that_is_not_trusted_is_read_in_this_process(tmp_path, monkeypatch):
    write_series(make_slices(np.zeros((4, 5, 6), np.uint16)), tmp_path / "ct")

    def read(*_args, **_options):
        raise AssertionError("a header was read here")

    monkeypatch.setattr("bedside.io.dicom.groups.read_header", read)
    monkeypatch.setattr("bedside.io.discovery.detect_format", read)
    found = ReadOptions(untrusted=PATIENT).find(tmp_path)
    assert found.paths == (tmp_path / "ct",)
    assert len(found.files[tmp_path / "ct"]) == 4


def test_a_list_of_what_lies_elsewhere_is_not_believed(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()

    def lie(_request, _path, folder, _limits):
        outside = str(tmp_path / "a" / ".." / "secret.dcm")
        answer = {"paths": [outside], "skipped": [], "files": {}}
        (folder / "answer.json").write_text(json.dumps(answer))

    monkeypatch.setattr(untrusted, "_run_child", lie)
    with pytest.raises(FormatError, match="cannot be meant"):
        find_untrusted(tmp_path / "a", limits=PATIENT)


def test_errors_come_back_as_what_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_nifti(np.zeros((4, 4, 3), np.uint8), tmp_path / "x.nii")
    whole = bytearray(path.read_bytes())
    whole[80:84] = bytes(4)
    path.write_bytes(whole)
    with pytest.raises(GeometryError, match=r"^x\.nii: the spacing"):
        open_untrusted(Path("x.nii"), limits=PATIENT)
    (tmp_path / "words.txt").write_text("Dear colleague")
    with pytest.raises(FormatError, match="is no image"):
        open_untrusted(Path("words.txt"), limits=PATIENT)
    with pytest.raises(FormatError, match="cannot read"):
        open_untrusted(Path("gone.dcm"), limits=PATIENT)


def _make_bomb(path, *, megabytes):
    """A .nii.gz of some kB whose header is honest about what it inflates to."""
    head = write_nifti(np.zeros((4, 4, 4), np.uint8), path.with_suffix(".part.nii")).read_bytes()
    head = bytearray(head[:352])
    head[42:48] = np.array([1024, 1024, megabytes], "<i2").tobytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        file.write(packer.compress(bytes(head)))
        for _ in range(megabytes):
            file.write(packer.compress(bytes(2**20)))
        file.write(packer.flush())
    return path


def test_a_gzip_bomb_is_refused_at_its_cap(tmp_path):
    path = _make_bomb(tmp_path / "bomb.nii.gz", megabytes=300)
    assert path.stat().st_size < 2**20
    with pytest.raises(LimitError, match=r"bomb\.nii\.gz takes more than 128 MiB"):
        open_untrusted(path, limits=replace(PATIENT, memory_mb=128))


def test_a_child_takes_what_its_parent_leaves_of_the_ceiling(tmp_path):
    path = _make_bomb(tmp_path / "bomb.nii.gz", megabytes=300)
    ceiling = resident_bytes() + 250 * 10**6
    with pytest.raises(LimitError, match=r"takes more than (\d+) MiB") as refused:
        open_untrusted(path, limits=replace(PATIENT, ceiling_bytes=ceiling))
    assert 100 < int(re.search(r"than (\d+) MiB", str(refused.value))[1]) < 165
    with pytest.raises(MemoryLimitError, match="--max-ram"):
        open_untrusted(path, limits=replace(PATIENT, ceiling_bytes=resident_bytes() + 10**8))


def test_a_deflated_dicom_bomb_is_refused_at_its_cap(tmp_path):
    """pydicom inflates the whole data set at once, here to 120 MB of a private element, which is
    less than the reader's own limit.
    """
    dataset = make_dicom(make_fan(1), tags={"FloatPixelPaddingValue": 0.0})
    dataset.add_new(0x00091010, "OB", bytes(120_000_000))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = tmp_path / "bomb.dcm"
    dcmwrite(path, dataset, enforce_file_format=True)
    del dataset
    assert path.stat().st_size < 2_000_000
    with pytest.raises(LimitError, match=r"bomb\.dcm takes more than 64 MiB"):
        open_untrusted(path, limits=replace(PATIENT, memory_mb=64))


def _child_that(monkeypatch, folder, code):
    """Run the child with a reader of pictures of our own."""
    (folder / "own_child.py").write_text(
        "import os, signal, sys, time, ctypes\n"
        "import bedside.io.raster, bedside.io.sandbox.child\n"
        f"def read(path):\n    {code}\n"
        "bedside.io.raster.open_picture = read\n"
        "sys.exit(bedside.io.sandbox.child.main())\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(untrusted, "MODULE", "own_child")


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        ("time.sleep(600)", LimitError, "takes more than 4 s"),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGTERM])\n"
         "    os.read(os.open(os.environ['FIFO'], os.O_RDONLY), 1)", LimitError, "more than 4 s"),
        ("ctypes.string_at(0)", FormatError, "died of SIGSEGV"),
        ("os.abort()", FormatError, "died of SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGKILL)", LimitError, "killed"),
        ("os._exit(7)", FormatError, "with status 7"),
        ("os._exit(0)", FormatError, "gave no answer"),
        ("keep = [bytearray(2**20) for _ in range(300)]", LimitError, "more than 256 MiB"),
        ("raise RuntimeError('odd')", FormatError, "odd"),
    ],
)  # fmt: skip
def test_every_death_of_the_decoder_is_a_typed_error(tmp_path, monkeypatch, code, error, says):
    path = write_picture(make_fan(1)[0], tmp_path / "x.png")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setenv("FIFO", str(tmp_path / "fifo"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    _child_that(monkeypatch, tmp_path, code)
    hangs = "more than 4 s" in says
    deadline_s = 4 if hangs else PATIENT.deadline_s
    begin = time.monotonic()
    with pytest.raises(error, match=says):
        open_untrusted(path, limits=Limits(256, deadline_s))
    assert not hangs or time.monotonic() - begin < 20
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "answer",
    [
        "[]", "{", "{}", "[" * 100_000, '{"kind": "dicom"}',
        '{"kind": "picture", "dtype": "O8", "shape": [1, 1, 2, 2]}',
        '{"kind": "picture", "dtype": "u1", "shape": [1, 1, 9999, 9999], "modality": null, '
        '"warnings": [], "frame_time_ms": null, "slice_spacing_mm": null}',
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_meant_is_refused(tmp_path, monkeypatch, answer):
    """A child that was taken over says what it likes."""
    path = write_picture(make_fan(1)[0], tmp_path / "x.png")
    (tmp_path / "own_child.py").write_text(
        "import json, sys, pathlib\n"
        "folder = pathlib.Path(json.load(sys.stdin)['folder'])\n"
        "(folder / 'frames.raw').write_bytes(b'abcd')\n"
        f"(folder / 'answer.json').write_text({answer!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(untrusted, "MODULE", "own_child")
    with pytest.raises(FormatError, match=r"x\.png.*(answer|meant)"):
        open_untrusted(path, limits=PATIENT)


def test_no_decoder_outlives_its_parent(tmp_path, monkeypatch):
    path = write_picture(make_fan(1)[0], tmp_path / "x.png")
    note = tmp_path / "pid"
    _child_that(monkeypatch, tmp_path, f"open({str(note)!r}, 'w').write(str(os.getpid())); "
                "time.sleep(600)")  # fmt: skip
    code = (
        "import sys; from pathlib import Path; from bedside.io.sandbox import parent\n"
        "parent.MODULE = 'own_child'\n"
        f"parent.open_untrusted(Path({str(path)!r}), limits=parent.Limits(256, 500))"
    )
    root = str(Path(bedside.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(tmp_path)])}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment)
    end = time.monotonic() + 60
    while not (note.exists() and note.read_text()) and time.monotonic() < end:
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    pid = int(note.read_text())
    while _is_running(pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _is_running(pid)


def _is_running(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_private_value_that_breaks_the_rules_does_not_stop_a_file(tmp_path):
    path = write_dicom(make_dicom(make_fan(1)), tmp_path / "x.dcm")
    dataset = pydicom.dcmread(path)
    content = path.read_bytes()
    bad = content.replace(b"Test^Synthetic", b"Test^Synthet\xff\xff")
    path.write_bytes(bad)
    assert bad != content
    other = open_untrusted(path, limits=PATIENT)
    assert other.header.first.PatientID == dataset.PatientID


def test_frames_stay_while_the_source_is_used_and_files_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = tmp_path / "data"
    data.mkdir()
    path = data / "x.nii.gz"
    path.write_bytes(gzip.compress(write_nifti(SCAN, data / "y.nii").read_bytes()))
    sequence = open_untrusted(path, limits=PATIENT).sequence
    assert [each.name for each in tmp_path.iterdir()] == ["data"]
    path.unlink()
    assert (sequence.decode(3)[0] == SCAN[:, :, 3].T).all()


def test_another_run_that_tidies_up_leaves_the_folder_of_a_child_alone(tmp_path, monkeypatch):
    path = _make(tmp_path, "scaled")
    run_child = untrusted._run_child

    def tidy_first(*arguments):
        call = "import sys, pathlib; from bedside.system.unfinished import tidy; "
        call += "tidy(pathlib.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", call, tempfile.gettempdir()], check=True)
        run_child(*arguments)

    monkeypatch.setattr(untrusted, "_run_child", tidy_first)
    assert open_untrusted(path, limits=PATIENT).sequence.shape == (4, 1, 3, 2)
