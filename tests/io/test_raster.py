"""Pictures: pixels as stored, odd ones told of, masks that can be looked at and read back."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bedside.errors import FormatError, OutputError
from bedside.io.raster import open_picture, write_pngs
from bedside.io.source import open_source
from bedside.volume import LabelMap
from makers import LABELS, make_fan, make_labels, write_picture

pytest_plugins = ["memory_fixtures"]
pytestmark = pytest.mark.usefixtures("in_little_memory")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_png_comes_back_exactly(tmp_path, dtype):
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 7)).astype(dtype)
    sequence = open_picture(write_picture(array, tmp_path / "x.png"))
    assert sequence.shape == (1, 1, 9, 7)
    assert sequence.decode(0).dtype == dtype
    assert np.array_equal(sequence.decode(0)[0], array)
    assert (sequence.modality, sequence.spacing_mm) == (None, None)


@pytest.mark.parametrize("bands", [3, 4])
def test_a_colour_png_comes_back_exactly_without_its_alpha(tmp_path, bands):
    array = np.random.default_rng(0).integers(0, 255, (9, 7, bands)).astype(np.uint8)
    sequence = open_picture(write_picture(array, tmp_path / "x.png"))
    assert np.array_equal(sequence.decode(0), array[..., :3].transpose(2, 0, 1))
    assert ("transparency" in sequence.warnings[0]) == (bands == 4)


def test_a_palette_becomes_rgb(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "x.png")
    sequence = open_picture(tmp_path / "x.png")
    assert sequence.decode(0)[:, 0].T.tolist() == [[10, 20, 30], [40, 50, 60]]


def test_a_jpeg_is_told_by_its_bytes_and_its_loss_is_told(tmp_path):
    path = write_picture(make_fan(1)[0], tmp_path / "x.jpg").rename(tmp_path / "x.dat")
    source = open_source(path)
    assert (source.kind, source.sequence.shape) == ("picture", (1, 1, 48, 64))
    assert any("loss" in warning for warning in source.sequence.warnings)


def test_an_exif_turn_is_told_of_and_not_done(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(make_fan(1)[0]).save(tmp_path / "x.jpg", exif=exif)
    sequence = open_picture(tmp_path / "x.jpg")
    assert sequence.shape == (1, 1, 48, 64)
    assert "orientation 6" in sequence.warnings[0]


@pytest.mark.parametrize("exif", [b"", b"II", b"Exif\0\0MM\0*\0\0\0\x08\0\x09", b"\xff" * 40])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_damaged_exif_says_nothing_and_is_nothing_to_warn_of(tmp_path, suffix, exif):
    Image.fromarray(make_fan(1)[0]).save(tmp_path / f"x{suffix}", exif=exif)
    sequence = open_picture(tmp_path / f"x{suffix}")
    assert not any("EXIF" in warning for warning in sequence.warnings)


def test_of_a_file_of_several_jpegs_the_first_is_taken(tmp_path):
    first, second = (Image.fromarray(frame) for frame in make_fan(2))
    first.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[second])
    sequence = open_picture(tmp_path / "x.jpg")
    assert sequence.shape == (1, 1, 48, 64)
    assert "several pictures" in sequence.warnings[0]


def test_a_palette_with_shades_of_transparency_becomes_rgb(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "x.png", transparency=bytes([0, 128]))
    sequence = open_picture(tmp_path / "x.png")
    assert sequence.decode(0)[:, 0].T.tolist() == [[10, 20, 30], [40, 50, 60]]
    assert "the picture's transparency is dropped" in sequence.warnings


def test_the_limit_is_ours_and_not_pillows(tmp_path, monkeypatch):
    path = write_picture(make_fan(1)[0], tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_picture(path).shape == (1, 1, 48, 64)


def test_of_an_animated_png_the_first_frame_is_taken(tmp_path):
    frames = [Image.fromarray(frame) for frame in make_fan(3)]
    frames[0].save(tmp_path / "x.png", save_all=True, append_images=frames[1:])
    sequence = open_picture(tmp_path / "x.png")
    assert np.array_equal(sequence.decode(0)[0], make_fan(3)[0])
    assert "3 frames" in sequence.warnings[0]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_picture_is_refused(tmp_path, suffix, share):
    path = write_picture(make_fan(1, 200, 200)[0], tmp_path / f"x{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FormatError, match=rf"x\{suffix}.*Save it again"):
        open_source(path)


def test_a_picture_too_large_is_refused_before_decoding(tmp_path):
    path = write_picture(np.zeros((300, 300), np.uint8), tmp_path / "x.png")
    with pytest.raises(FormatError, match="300 x 300"):
        open_picture(path, max_bytes=10_000)


def test_decoding_twice_gives_arrays_of_their_own(tmp_path):
    sequence = open_picture(write_picture(make_fan(1)[0], tmp_path / "x.png"))
    sequence.decode(0)[:] = 0
    assert np.array_equal(sequence.decode(0)[0], make_fan(1)[0])


def test_a_mask_holds_label_numbers_and_shows_label_colours(tmp_path):
    labels = make_labels(1)
    path = write_pngs(LabelMap(labels), tmp_path / "mask.png", labels_spec=LABELS)
    image = Image.open(path)
    assert image.mode == "P"
    assert np.array_equal(np.array(image), labels[0])
    colours = np.array(image.convert("RGB"))
    assert colours[labels[0] == 3][0].tolist() == list(LABELS[2].color)
    assert colours[labels[0] == 0][0].tolist() == [0, 0, 0]


def test_masks_of_several_frames_become_a_folder(tmp_path):
    labels = make_labels(3)
    folder = write_pngs(LabelMap(labels), tmp_path / "mask.png", labels_spec=LABELS)
    names = [path.name for path in sorted(folder.iterdir())]
    assert folder == tmp_path / "mask"
    assert names == ["frame_0001.png", "frame_0002.png", "frame_0003.png"]
    read = np.stack([np.array(Image.open(folder / name)) for name in names])
    assert np.array_equal(read, labels)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "mask").write_text("in the way")
    with pytest.raises(OutputError, match="mask"):
        write_pngs(LabelMap(make_labels(3)), tmp_path / "mask.png", labels_spec=LABELS)


def test_a_mask_is_read_back_as_the_labels_that_were_written(tmp_path):
    labels = make_labels(1)
    path = write_pngs(LabelMap(labels), tmp_path / "mask.png", labels_spec=LABELS)
    assert np.array_equal(open_source(path, as_labels=True).sequence.decode(0), labels)
    # As a picture it is what it looks like.
    assert open_source(path).sequence.shape == (1, 3, 48, 64)


@pytest.mark.parametrize("palette", [[0, 0, 0, 255, 255, 255], [7, 7, 7, 9, 9, 9]])
def test_a_palette_of_greys_holds_their_values_and_not_its_numbers(tmp_path, palette):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette(palette)
    image.save(tmp_path / "x.png")
    frame = open_source(tmp_path / "x.png", as_labels=True).sequence.decode(0)
    assert frame[:, 0].tolist() == [palette[::3]] * 3


def test_a_mask_of_ours_is_read_as_numbers_whatever_colours_its_labels_have(tmp_path):
    white = replace(LABELS[0], color=(255, 255, 255))
    labels = (make_labels(1) == 1).astype(np.uint8)
    path = write_pngs(LabelMap(labels), tmp_path / "mask.png", labels_spec=(white,))
    assert np.array_equal(open_source(path, as_labels=True).sequence.decode(0), labels)
