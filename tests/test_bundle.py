import io
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bedside import bundle as bundles
from bedside.bundle import archive, find_bundle, read_bundle, shipped_bundles, write_bundle
from bedside.errors import BundleError, OutputError
from bedside.spec import PrecisionResult
from models_for_tests import make_card, make_plain_graph, make_spec, make_split, make_verdict

GRAPH = make_plain_graph().SerializeToString()


def write(path: Path, **changes: object) -> Path:
    parts = {
        "spec": make_spec(),
        "card": make_card(make_verdict("f32", passed=True)),
        "graphs": {"f32": GRAPH},
        "split": make_split(),
    }
    write_bundle(path, **(parts | changes))
    return path


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.bedside")


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive_:
        return {name: archive_.read(name) for name in archive_.namelist()}


def repack(path: Path, members: dict[str, bytes], *, rehash: bool = True) -> None:
    """Write members as they are, with hashes that agree unless told otherwise."""
    if rehash:
        manifest = json.loads(members["bundle.json"])
        manifest["files"] = {
            name: bundles.store._describe(content)
            for name, content in members.items()
            if name != "bundle.json"
        }
        members = members | {"bundle.json": json.dumps(manifest).encode()}
    path.write_bytes(archive.pack(members))


def edit_manifest(path: Path, edit: Callable[[dict], None]) -> None:
    members = members_of(path)
    manifest = json.loads(members["bundle.json"])
    edit(manifest)
    repack(path, members | {"bundle.json": json.dumps(manifest).encode()}, rehash=False)


def refusal(path: Path) -> str:
    """The one line that a refused bundle gets, which always names the file."""
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_what_is_written_is_read_back(sound: Path) -> None:
    bundle = read_bundle(sound)
    assert bundle.spec == make_spec()
    assert bundle.card == make_card(make_verdict("f32", passed=True))
    assert bundle.split == make_split()
    assert bundle.precisions == ("f32",)
    assert bundle.read_graph("f32") == GRAPH
    assert bundle.size_bytes == sound.stat().st_size
    with pytest.raises(BundleError, match='no graph in "int8"; it has f32'):
        bundle.read_graph("int8")


def test_the_same_parts_give_the_same_bytes(tmp_path: Path, sound: Path) -> None:
    again = write(tmp_path / "again.bedside")
    os.utime(sound, (0, 0))
    assert again.read_bytes() == sound.read_bytes()
    assert read_bundle(again).sha256 == read_bundle(sound).sha256


def test_another_graph_gives_another_hash(tmp_path: Path, sound: Path) -> None:
    other = write(tmp_path / "other.bedside", graphs={"f32": GRAPH, "int8": GRAPH})
    assert read_bundle(other).precisions == ("f32", "int8")
    assert read_bundle(other).sha256 != read_bundle(sound).sha256


def test_no_cut_of_a_bundle_is_accepted(sound: Path) -> None:
    content = sound.read_bytes()
    for length in [0, 1, 3, 4, 30, *range(50, len(content), 97), len(content) - 1]:
        sound.write_bytes(content[:length])
        refusal(sound)


def test_a_flipped_bit_is_found_wherever_it_changes_a_member(sound: Path) -> None:
    content, members = sound.read_bytes(), members_of(sound)
    refused = 0
    for place in range(0, len(content), 7):
        sound.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            read_bundle(sound)
        except BundleError:
            refused += 1
            continue
        assert members_of(sound) == members
    assert refused > len(content) / 7 / 2


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x80\x04pickle", b"PK\x03\x04" + bytes(99)])
def test_what_is_not_a_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.bedside"
    path.write_bytes(content)
    refusal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.bedside")
    (tmp_path / "folder.bedside").mkdir()
    refusal(tmp_path / "folder.bedside")


@pytest.mark.parametrize("name", ["bundle.json", "card.json", "graphs/f32.onnx"])
def test_a_missing_member_is_named(sound: Path, name: str) -> None:
    members = members_of(sound)
    del members[name]
    repack(sound, members, rehash=name != "bundle.json")
    assert name in refusal(sound)


def test_a_member_unlike_its_hash_is_named(sound: Path) -> None:
    members = members_of(sound)
    members["card.json"] += b" "
    repack(sound, members, rehash=False)
    assert "'card.json' has sha256" in refusal(sound)


@pytest.mark.parametrize("name", ["graphs/f64.onnx", "weights.pkl", "run.py", "card.json/"])
def test_members_of_other_kinds_are_refused(sound: Path, name: str) -> None:
    repack(sound, members_of(sound) | {name: b"x"})
    assert "that no bundle has" in refusal(sound)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../card.json", "graphs/../../x", "C:\\x", "..\\x"]
)
def test_a_path_that_escapes_is_refused(sound: Path, name: str) -> None:
    repack(sound, members_of(sound) | {name: b"x"})
    assert "points outside" in refusal(sound)


def write_zip(path: Path, *entries: tuple[zipfile.ZipInfo, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive_:
        for info, content in entries:
            archive_.writestr(info, content)


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("card.json")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "x.bedside"
    write_zip(path, (link, b"/etc/passwd"))
    assert "not a plain file" in refusal(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.bedside"
    write_zip(path, *[(zipfile.ZipInfo("card.json"), text) for text in (b"1", b"2")])
    assert "twice" in refusal(path)


def test_other_compression_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("card.json")
    info.compress_type = zipfile.ZIP_LZMA
    path = tmp_path / "x.bedside"
    write_zip(path, (info, b"{}"))
    assert "compressed by method 14" in refusal(path)


def test_a_bomb_is_refused_by_the_size_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "bomb.bedside"
    path.write_bytes(archive.pack({"card.json": bytes(archive.MAX_MEMBER_BYTES + 1)}))
    assert path.stat().st_size < 100_000
    assert str(archive.MAX_MEMBER_BYTES + 1) in refusal(path)


def test_a_bomb_that_declares_a_small_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 1000)
    content = archive.pack({"card.json": bytes(100_000)})
    for claim in (1000, 10):
        forged = content.replace((100_000).to_bytes(4, "little"), claim.to_bytes(4, "little"))
        assert forged != content
        path = tmp_path / "bomb.bedside"
        path.write_bytes(forged)
        refusal(path)


def test_a_file_over_the_cap_is_not_even_read(sound: Path) -> None:
    os.truncate(sound, archive.MAX_FILE_BYTES + 1)
    assert "at most" in refusal(sound)


@pytest.mark.parametrize("version", [0, 3, "1", 1.0, None, True])
def test_another_schema_version_is_refused(sound: Path, version: object) -> None:
    edit_manifest(sound, lambda manifest: manifest.update(schema_version=version))
    assert f"schema version {version!r}; this bedside reads 1" in refusal(sound)


def test_a_newer_bundle_is_refused_for_its_version_not_for_its_keys(sound: Path) -> None:
    edit_manifest(sound, lambda manifest: manifest.update(schema_version=3, extra=1))
    assert "schema version 3" in refusal(sound)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda manifest: manifest.update(extra=1), "extra"),
        (lambda manifest: manifest["spec"].update(nmae="x"), 'Did you mean "name"'),
        (lambda manifest: manifest["spec"].pop("task"), "task"),
        (lambda manifest: manifest["spec"]["input"].update(size_px=64), "size_px"),
        (lambda manifest: manifest["spec"].update(preprocess=[{"step": ["x"]}]), "unhashable"),
        (lambda manifest: manifest["spec"].update(labels=[]), "num_classes"),
        (lambda manifest: manifest["split"].pop("test"), "split"),
        (lambda manifest: manifest["split"].update(test=["p1"]), "'p1' stands twice"),
        (lambda manifest: manifest["split"].update(test="p1"), "split.test"),
        (lambda manifest: manifest.update(files=None), "lists others"),
        (lambda manifest: manifest["files"].pop("card.json"), "lists others"),
        (lambda manifest: manifest["spec"]["input"].update(size_px=[32, 32]), "graphs/f32.onnx"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    sound: Path, edit: Callable[[dict], None], expected: str
) -> None:
    edit_manifest(sound, edit)
    assert expected in refusal(sound)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff", b"[" * 10**6, b'{"data": NaN}', b'{"a": 1, "a": 2}']
)
def test_json_that_is_none_is_refused(sound: Path, text: bytes) -> None:
    repack(sound, members_of(sound) | {"card.json": text})
    refusal(sound)
    repack(sound, members_of(sound) | {"bundle.json": text}, rehash=False)
    refusal(sound)


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "x.bedside"
    for changes in (
        {"graphs": {}},
        {"graphs": {"f16": GRAPH}},
        {"graphs": {"f32": b"no graph"}},
        {"split": {"train": (), "val": (), "test": ("p", "p")}},
        {"card": make_card(PrecisionResult("bf16", (0.9,), float("nan"), passed=True))},
    ):
        with pytest.raises(BundleError, match=r"x\.bedside"):
            write(path, **changes)
    with pytest.raises(BundleError, match=r"must end in \.bedside"):
        write(tmp_path / "x.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "file" / "x.bedside")


def test_a_card_of_absurd_size_is_refused_before_it_is_parsed(sound: Path) -> None:
    repack(sound, members_of(sound) | {"card.json": b"[" * (5 * 2**20)})
    assert "at most 4194304" in refusal(sound)


def test_bundles_are_found_by_path_and_by_name(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_bundle(str(sound)) == sound
    monkeypatch.setattr(bundles.shipped, "_FOLDER", sound.parent)
    assert shipped_bundles() == [sound]
    assert find_bundle("tiny") == sound
    with pytest.raises(BundleError, match=r'no bundle "tinny".*: tiny'):
        find_bundle("tinny")
    with pytest.raises(BundleError, match="is a folder"):
        find_bundle(str(sound.parent))


@pytest.mark.parametrize("path", shipped_bundles(), ids=lambda path: path.stem)
def test_every_shipped_bundle_is_sound_and_small(path: Path) -> None:
    bundle = read_bundle(path)
    assert bundle.spec.name == path.stem
    # The first bundle keeps the megabyte that it was promised in; all fit into a package.
    assert bundle.size_bytes <= (1_000_000 if path.stem == "camus-4ch" else 3_000_000)
    assert bundle.path == path


def test_packing_does_not_depend_on_the_clock_or_the_order() -> None:
    content = archive.pack({"b": b"2", "a": b"1"})
    with zipfile.ZipFile(io.BytesIO(content)) as archive_:
        assert archive_.namelist() == ["a", "b"]
        assert {info.date_time for info in archive_.infolist()} == {(1980, 1, 1, 0, 0, 0)}
