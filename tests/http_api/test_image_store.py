"""Images of a store are there whole, by any id, and stay when the server starts again."""

import shutil

import pytest

from bedside.errors import OutputError, UsageError
from bedside.http_api.image_store import ImageStore


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path / "store")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sent"
    path.write_bytes(b"pixels")
    return path


@pytest.mark.parametrize("image_id", ["a", "../../etc/passwd", "ä\ud800", "C:\\x", "x" * 1024, "."])
def test_any_id_names_an_image_and_no_place(store, file, image_id):
    store.add_image(image_id, file, suffix=".nii", info={"a": 1})
    image = ImageStore(store.folder).find(image_id)
    assert image.path.read_bytes() == b"pixels"
    assert image.path.is_relative_to(store.folder)
    assert (image.id, image.suffix, image.info) == (image_id, ".nii", {"a": 1})
    assert [each.id for each in store] == [image_id]


@pytest.mark.parametrize("image_id", ["", "x" * 1025])
def test_an_id_has_a_length(store, file, image_id):
    with pytest.raises(UsageError, match="characters"):
        store.add_image(image_id, file, suffix=".nii")


def test_an_image_takes_the_place_of_one_with_its_id(store, file):
    store.add_image("a", file, suffix=".nii")
    store.add_label("a", "final", file, suffix=".nrrd", info={})
    file.write_bytes(b"others")
    store.add_image("a", file, suffix=".png")
    image = store.find("a")
    assert image.path.read_bytes() == b"others"
    assert not image.labels
    assert len(list(store.folder.iterdir())) == 1


def test_labels_have_tags(store, file):
    assert not store.add_label("a", "final", file, suffix=".nrrd", info={})
    store.add_image("a", file, suffix=".nii")
    for tag in ("final", "../x"):
        assert store.add_label("a", tag, file, suffix=".nrrd", info={"n": 1})
        assert store.update_info("a", {"m": 2}, tag=tag)
        label = store.find("a").labels[tag]
        assert label.path.read_bytes() == b"pixels"
        assert label.info == {"n": 1, "m": 2}
    assert store.remove_label("a", "final")
    assert not store.remove_label("a", "final")
    assert set(store.find("a").labels) == {"../x"}


def test_removed_images_are_gone(store, file):
    store.add_image("a", file, suffix=".nii")
    assert store.remove_image("a")
    assert not store.remove_image("a")
    assert store.find("a") is None
    assert not list(store)


def test_a_disk_is_not_filled(store, file, monkeypatch):
    room = shutil.disk_usage(file.parent)._replace(free=2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    with pytest.raises(OutputError, match="No space"):
        store.add_image("a", file, suffix=".nii")
    with pytest.raises(OutputError, match="No space"):
        store.add_instance("1", "2", file)
    assert not list(store)


def test_instances_of_a_series_come_together(store, file):
    for uid in ("1.2", "1.3", "1.2"):
        store.add_instance("1", uid, file)
    image = store.find("1")
    assert len(list(image.path.iterdir())) == 2
    assert image.suffix == ".dcm"
