"""Packs of evidence: complete, bound to their bundle, and any change is found."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from bedside.bundle import read_bundle, sign_bundle, write_bundle
from bedside.bundle.keys import make_keys
from bedside.cli.main import main
from bedside.evaluation.looks import Look, hash_part
from bedside.evidence.pack import MANIFEST, SIGNATURE, hash_manifest
from bedside.evidence.sbom import write_sbom
from bedside.spec.card import ArtefactLoss, ConfidenceResult
from bedside.spec.reading import to_mapping
from models_for_tests import make_card, make_plain_graph, make_spec, make_split, make_verdict

EVALUATED = "evaluation/evaluation.json"
ALWAYS = {
    "card.json", "certificates.json", "confidence.json", "data.json", "dicom-conformance.md",
    "hashes.json", "robustness.json", "sbom.cdx.json", "test.json", "versions.json",
}  # fmt: skip


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "my.bedside"
    lost = (ArtefactLoss("shadow", (0.01,) * len(make_spec().labels), 0.5, 0.0),)
    sure = (ConfidenceResult("inner", (0.8, 0.9), (0.3, 0.2), (0.01, 0.02), (0.9, 0.88)),)
    card = replace(make_card(make_verdict("f32")), robustness=lost, confidence=sure)
    write_bundle(
        path, spec=make_spec(), card=card,
        graphs={"f32": make_plain_graph().SerializeToString()}, split=make_split(),
    )  # fmt: skip
    return path


@pytest.fixture
def ledger(tmp_path, bundle):
    ours = hash_part(read_bundle(bundle).split["test"])
    looks = [
        Look("2026-01-01", "evaluate", name, "", "made up", part, 1, {"a": 0.5}, "0")
        for name, part in (("ours", ours), ("theirs", "0" * 16))
    ]
    path = tmp_path / "test_looks.jsonl"
    path.write_text("".join(json.dumps(to_mapping(look)) + "\n" for look in looks))
    return path


@pytest.fixture
def evaluated(tmp_path, bundle):
    folder = tmp_path / "evaluated"
    folder.mkdir()
    about = {"bundle": {"sha256": read_bundle(bundle).sha256}}
    (folder / "evaluation.json").write_text(json.dumps(about))
    (folder / "evaluation.md").write_text("Dice")
    return folder


@pytest.fixture
def pack(tmp_path, bundle, ledger, evaluated, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = ["evidence", str(bundle), "-o", "pack", "--evaluation", str(evaluated)]
    assert main(call) == 0
    return tmp_path / "pack"


def verify(pack, capsys, *options, code=0):
    capsys.readouterr()
    assert main(["evidence", "verify", str(pack), "--json", *options]) == code
    return json.loads(capsys.readouterr().out)


def test_a_pack_has_every_kind_of_evidence_and_is_sound(pack, capsys):
    manifest = json.loads((pack / MANIFEST).read_text())
    own = {path.relative_to(pack).as_posix() for path in pack.rglob("*.*") if path.is_file()}
    assert set(manifest["files"]) == own - {MANIFEST}
    assert set(manifest["files"]) == ALWAYS | {EVALUATED, "evaluation/evaluation.md", "looks.jsonl"}
    assert manifest["absent"] == {}
    found = verify(pack, capsys)
    assert (found["sound"], found["problems"], found["checked"]) == (True, [], len(own) - 1)


def test_a_pack_tells_no_patient_and_only_the_looks_at_its_test_part(pack, bundle):
    split = json.loads((pack / "data.json").read_text())["split"]
    patients = read_bundle(bundle).split
    assert {part: each["count"] for part, each in split.items()} == {
        part: len(ids) for part, ids in patients.items()
    }
    assert split["test"]["hash"] == hash_part(patients["test"])
    looks = (pack / "looks.jsonl").read_text().splitlines()
    assert [json.loads(line)["bundle"] for line in looks] == ["ours"]


def test_every_file_is_guarded(pack, capsys):
    names = [path.relative_to(pack).as_posix() for path in sorted(pack.rglob("*.*"))]
    for name in (name for name in names if (pack / name).is_file()):
        sound = (pack / name).read_bytes()
        # One bit of a letter, so that JSON stays JSON.
        place = next(i for i in range(len(sound) // 2, len(sound)) if sound[i : i + 1].isalpha())
        changed = bytearray(sound)
        changed[place] ^= 0x20
        (pack / name).write_bytes(changed)
        assert main(["evidence", "verify", str(pack)]) == 3, name
        said = capsys.readouterr()
        assert name in said.out + said.err
        if name != MANIFEST:
            (pack / name).unlink()
            assert f"{name} is missing" in verify(pack, capsys, code=3)["problems"]
        (pack / name).write_bytes(sound)
    assert verify(pack, capsys)["sound"]


def test_what_follows_from_the_bundle_cannot_be_forged_with_its_hashes(pack, capsys):
    for name in (
        "card.json",
        "data.json",
        "hashes.json",
        "test.json",
        "confidence.json",
        "certificates.json",
    ):
        kept = {each: (pack / each).read_bytes() for each in (name, MANIFEST)}
        (pack / name).write_bytes(kept[name] + b"\n")
        reseal(pack, name)
        problems = verify(pack, capsys, code=3)["problems"]
        assert problems == [f"{name} says something else than the bundle"]
        for each, content in kept.items():
            (pack / each).write_bytes(content)


def reseal(pack, name):
    """Put the hash of a changed file into the manifest, as a forger would."""
    import hashlib

    manifest = json.loads((pack / MANIFEST).read_text())
    content = (pack / name).read_bytes()
    manifest["files"][name] = {
        "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)
    }  # fmt: skip
    manifest["sha256"] = hash_manifest(manifest)
    (pack / MANIFEST).write_text(json.dumps(manifest))


def test_another_bundle_and_a_missing_one_are_named(pack, bundle, tmp_path, capsys):
    other = tmp_path / "other.bedside"
    write_bundle(
        other, spec=replace(make_spec(), version="9"), card=make_card(),
        graphs={"f32": make_plain_graph().SerializeToString()}, split=make_split(),
    )  # fmt: skip
    (problem,) = verify(pack, capsys, "--bundle", str(other), code=3)["problems"]
    assert read_bundle(other).sha256 in problem
    assert read_bundle(bundle).sha256 in problem
    bundle.unlink()
    (problem,) = verify(pack, capsys, code=3)["problems"]
    assert "my.bedside was not found" in problem


def test_a_file_that_is_not_listed_is_named(pack, capsys):
    (pack / "notes.txt").write_text("trust us")
    assert verify(pack, capsys, code=3)["problems"] == ["notes.txt is not listed in manifest.json"]


def rewrite_manifest(pack, edit):
    """Change a manifest and its own hash."""
    manifest = json.loads((pack / MANIFEST).read_text())
    edit(manifest)
    manifest["sha256"] = hash_manifest(manifest)
    (pack / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name", ["sbom.cdx.json", "versions.json", "dicom-conformance.md", "looks.jsonl"]
)
def test_evidence_that_is_left_out_without_a_word_is_named(pack, capsys, name):
    (pack / name).unlink()
    rewrite_manifest(pack, lambda manifest: manifest["files"].pop(name))
    capsys.readouterr()
    assert main(["evidence", "verify", str(pack)]) == 3
    assert f"{name} is left out" in " ".join(capsys.readouterr().out.split())


def test_a_link_is_no_file_of_a_pack(pack, tmp_path, capsys):
    (pack / "card.json").rename(tmp_path / "elsewhere.json")
    (pack / "card.json").symlink_to(tmp_path / "elsewhere.json")
    capsys.readouterr()
    assert main(["evidence", "verify", str(pack)]) == 3
    assert "card.json is a link" in " ".join(capsys.readouterr().out.split())


def test_a_signed_pack_is_trusted_and_a_resealed_one_is_not(pack, bundle, tmp_path, capsys):
    pytest.importorskip("cryptography")
    keys = tmp_path / "keys"
    keys.mkdir()
    make_keys(tmp_path / "ours.pem", keys / "ours.pem")
    trusting = ("--trusted-keys", str(keys))
    assert "neither" in verify(pack, capsys, *trusting, code=3)["problems"][0]
    signed = tmp_path / "signed"
    call = ["evidence", str(bundle), "-o", str(signed), "--key", str(tmp_path / "ours.pem")]
    assert main(call) == 0
    found = verify(signed, capsys, *trusting)
    assert [(each["name"], each["status"]) for each in found["signed"]] == [("ours", "trusted")]
    (signed / "versions.json").write_text("{}\n")
    reseal(signed, "versions.json")
    problems = verify(signed, capsys, *trusting, code=3)["problems"]
    assert "does not fit" in problems[0]
    # A signature of the pack is none of the bundle.
    assert SIGNATURE not in json.loads((signed / MANIFEST).read_text())["files"]


def test_a_signature_of_the_bundle_suffices(bundle, tmp_path, capsys, monkeypatch):
    pytest.importorskip("cryptography")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").mkdir()
    make_keys(tmp_path / "ours.pem", tmp_path / "keys" / "ours.pem")
    sign_bundle(bundle, tmp_path / "ours.pem", bundle, ask_password=lambda: b"")
    assert main(["evidence", str(bundle), "-o", "pack"]) == 0
    assert len(json.loads((tmp_path / "pack/hashes.json").read_text())["signed_by"]) == 1
    assert verify(tmp_path / "pack", capsys, "--trusted-keys", "keys")["sound"]


def test_a_pack_is_never_replaced_and_takes_no_evaluation_of_another(
    pack, bundle, evaluated, tmp_path, capsys
):
    assert main(["evidence", str(bundle), "-o", str(pack)]) == 2
    (evaluated / "evaluation.json").write_text(json.dumps({"bundle": {"sha256": "0" * 64}}))
    call = ["evidence", str(bundle), "-o", str(tmp_path / "new"), "--evaluation", str(evaluated)]
    assert main(call) == 3
    assert not (tmp_path / "new").exists()
    assert main(["evidence", "verify", str(tmp_path)]) == 3
    assert "is no pack of evidence" in capsys.readouterr().err


def test_what_is_absent_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_bundle(
        tmp_path / "bare.bedside", spec=make_spec(),
        card=replace(make_card(), structures=(), precisions=()),
        graphs={"f32": make_plain_graph().SerializeToString()}, split=make_split(),
    )  # fmt: skip
    assert main(["evidence", "./bare.bedside", "-o", "pack"]) == 0
    assert set(verify(tmp_path / "pack", capsys)["absent"]) == {
        "test.json", "robustness.json", "confidence.json", "certificates.json", "looks.jsonl",
        "evaluation/",
    }  # fmt: skip


def test_the_list_of_software_names_what_is_loaded_and_validates(bundle):
    from datetime import UTC, datetime

    made = datetime(2026, 1, 1, tzinfo=UTC)
    content = write_sbom(read_bundle(bundle), created=made)
    assert content == write_sbom(read_bundle(bundle), created=made)
    listed = json.loads(content)
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    parts = {each["name"]: each for each in listed["components"]}
    loaded = {"numpy", "openvino", "pydicom", "opencv-python-headless"}
    assert {parts[name]["scope"] for name in loaded} == {"required"}
    assert parts["numpy"]["purl"] == f"pkg:pypi/numpy@{parts['numpy']['version']}"
    assert "torch" not in parts
    model = parts[read_bundle(bundle).spec.name]
    assert model["type"] == "machine-learning-model"
    assert model["hashes"] == [{"alg": "SHA-256", "content": read_bundle(bundle).sha256}]
    refs = {each["bom-ref"] for each in listed["components"]} | {"bedside"}
    assert {each["ref"] for each in listed["dependencies"]} == refs
    assert {name for each in listed["dependencies"] for name in each.get("dependsOn", ())} <= refs


def test_without_cyclonedx_the_package_is_named_and_packs_are_still_verified(pack, tmp_path):
    program = (
        "import sys; sys.modules['cyclonedx'] = None\n"
        "from importlib import util; find = util.find_spec\n"
        "util.find_spec = lambda name, *a: None if name == 'cyclonedx' else find(name, *a)\n"
        "from bedside.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    for words, code in (
        (["evidence", "my.bedside", "-o", "new"], 4), (["evidence", "verify", "pack"], 0)
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        if code:
            assert "cyclonedx-python-lib, which is not installed" in done.stderr
            assert not (tmp_path / "new").exists()
    shutil.rmtree(pack)
