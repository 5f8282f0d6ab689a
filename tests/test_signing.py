"""Signatures of bundles: sound ones name their key, and every attack is refused."""

import base64
import io
import json
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bedside.bundle import read_bundle, read_trusted_keys, sign_bundle, write_bundle
from bedside.bundle.archive import pack
from bedside.bundle.keys import make_keys, read_public_key
from bedside.bundle.signature import MEMBER, fingerprint_of
from bedside.bundle.trust import REQUIRE_SIGNED, TRUSTED_KEYS
from bedside.cli.main import main
from bedside.cli.sign import PASSWORD
from bedside.errors import BundleError, KeyFileError, OutputError, SignatureError, UsageError
from bedside.segment import open_segmenter
from folder_makers import make_folder
from makers import make_fan, write_picture

pytest_plugins = ["batch_fixtures"]
GUIDE = Path(__file__).parents[1] / "docs" / "signing.md"


def no_password():
    raise AssertionError("no password is needed")


@pytest.fixture
def keys(tmp_path):
    """Two pairs of keys, "ours" and "theirs"; ours is trusted."""
    (tmp_path / "trusted").mkdir()
    for name in ("ours", "theirs"):
        make_keys(tmp_path / f"{name}.pem", tmp_path / f"{name}.pub.pem")
    (tmp_path / "trusted" / "ours.pem").write_bytes((tmp_path / "ours.pub.pem").read_bytes())
    return tmp_path


@pytest.fixture
def trusted(keys):
    return read_trusted_keys(keys / "trusted")


@pytest.fixture
def signed(keys, bundle):
    return sign(bundle, keys, "ours")


def sign(bundle, keys, name, output="signed.bedside"):
    sign_bundle(bundle, keys / f"{name}.pem", keys / output, ask_password=no_password)
    return keys / output


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, **changes):
    """The bundle with other members; None takes one out."""
    members = {**members_of(path), **{name.replace("_json", ".json"): content
                                      for name, content in changes.items()}}  # fmt: skip
    path.write_bytes(pack({name: part for name, part in members.items() if part is not None}))
    return path


def test_a_signed_bundle_is_the_same_but_for_its_signature(bundle, signed, trusted):
    plain, read = read_bundle(bundle), read_bundle(signed, trusted=trusted)
    assert plain.signatures == ()
    assert (read.spec, read.card, read.split) == (plain.spec, plain.card, plain.split)
    assert read.manifest_sha256 == plain.manifest_sha256
    assert read.sha256 != plain.sha256
    assert trusted.names[read.signatures[0].fingerprint] == "ours"
    members = members_of(signed)
    del members[MEMBER]
    assert pack(members) == bundle.read_bytes()


def test_signing_again_gives_the_same_bytes_and_another_key_one_more_signature(keys, signed):
    before = signed.read_bytes()
    sign(signed, keys, "ours")
    assert signed.read_bytes() == before
    sign(signed, keys, "theirs")
    assert len(read_bundle(signed).signatures) == 2


def test_a_bundle_that_is_not_signed_is_refused_where_a_signature_is_asked_for(bundle, trusted):
    with pytest.raises(SignatureError, match=r"is not signed, and only bundles signed by a key"):
        read_bundle(bundle, trusted=trusted)


def test_a_key_that_is_not_trusted_is_refused(keys, bundle, trusted):
    path = sign(bundle, keys, "theirs")
    with pytest.raises(SignatureError, match=r"not trusted \([0-9a-f]{64}\); trusted are ours"):
        read_bundle(path, trusted=trusted)
    sign(path, keys, "ours")
    read_bundle(path, trusted=trusted)


def test_a_signature_that_was_taken_off_is_missed(signed, trusted):
    with pytest.raises(SignatureError, match="is not signed"):
        read_bundle(rewrite(signed, signature_json=None), trusted=trusted)


def change_card(path):
    """Another card with all hashes made to fit, as a careful attacker does."""
    import hashlib

    members = members_of(path)
    card = members["card.json"].replace(b'"epochs": ', b'"epochs": 1')
    manifest = json.loads(members["bundle.json"])
    manifest["files"]["card.json"] = {
        "sha256": hashlib.sha256(card).hexdigest(), "bytes": len(card),
    }  # fmt: skip
    text = json.dumps(manifest, sort_keys=True, indent=1, ensure_ascii=False)
    return rewrite(path, card_json=card, bundle_json=text.encode())


@pytest.mark.parametrize("asked", [True, False])
def test_a_change_after_signing_is_refused_whether_a_signature_is_asked_for_or_not(
    signed, trusted, asked
):
    with pytest.raises(SignatureError, match="changed after it was signed"):
        read_bundle(change_card(signed), trusted=trusted if asked else None)


def test_a_change_that_forgets_the_hashes_is_refused_as_damage(signed, trusted):
    card = members_of(signed)["card.json"] + b" "
    with pytest.raises(BundleError, match="damaged"):
        read_bundle(rewrite(signed, card_json=card), trusted=trusted)


def test_the_signature_of_another_bundle_does_not_fit(bundle, signed, keys, trusted):
    read = read_bundle(bundle)
    other = keys / "other.bedside"
    write_bundle(other, spec=read.spec, card=read.card, split={**read.split, "test": ("z",)},
                 graphs={"f32": read.read_graph("f32")})  # fmt: skip
    with pytest.raises(SignatureError, match="another bundle"):
        read_bundle(rewrite(other, signature_json=members_of(signed)[MEMBER]), trusted=trusted)


def edit_signature(path, edit):
    content = json.loads(members_of(path)[MEMBER])
    edit(content)
    return rewrite(path, signature_json=json.dumps(content).encode())


def test_a_key_that_says_it_is_another_is_refused(bundle, keys, trusted):
    """Signed by theirs, and ours written beside it."""
    path = sign(bundle, keys, "theirs")
    ours = base64.b64encode(read_public_key(keys / "ours.pub.pem")).decode()
    edit_signature(path, lambda content: content["signatures"][0].update(public_key=ours))
    with pytest.raises(SignatureError, match="does not fit"):
        read_bundle(path, trusted=trusted)


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.update(schema_version=2),
        lambda content: content.update(signatures=[]),
        lambda content: content.update(signatures=3),
        lambda content: content.update(more=1),
        lambda content: content["signatures"].append(content["signatures"][0]),
        lambda content: content.update(signatures=content["signatures"] * 17),
        lambda content: content["signatures"][0].update(signature="AAAA"),
        lambda content: content["signatures"][0].update(signature="not base64"),
        lambda content: content["signatures"][0].pop("public_key"),
        lambda content: content["signatures"][0].update(signature=5),
    ],
)
def test_a_member_that_holds_no_signatures_is_refused(signed, edit):
    with pytest.raises(BundleError, match="holds no signatures"):
        read_bundle(edit_signature(signed, edit))


def test_one_bit_of_a_signature_is_enough(signed):
    def flip(content):
        value = bytearray(base64.b64decode(content["signatures"][0]["signature"]))
        value[5] ^= 1
        content["signatures"][0]["signature"] = base64.b64encode(value).decode()

    with pytest.raises(SignatureError, match="does not fit"):
        read_bundle(edit_signature(signed, flip))


def test_keys_are_private_encrypted_and_never_replaced(tmp_path):
    make_keys(tmp_path / "a.pem", tmp_path / "a.pub.pem", password=b"secret")
    assert b"ENCRYPTED" in (tmp_path / "a.pem").read_bytes()
    assert (tmp_path / "a.pem").stat().st_mode & 0o077 == 0
    with pytest.raises(OutputError, match="never replaced"):
        make_keys(tmp_path / "a.pem", tmp_path / "b.pub.pem")
    with pytest.raises(OutputError, match="never replaced"):
        make_keys(tmp_path / "b.pem", tmp_path / "a.pub.pem")
    assert not (tmp_path / "b.pem").exists()


def test_a_wrong_password_or_another_kind_of_key_is_refused(bundle, tmp_path, keys):
    make_keys(tmp_path / "a.pem", tmp_path / "a.pub.pem", password=b"secret")
    (tmp_path / "b.pem").write_text("words")
    subprocess.run(["openssl", "genpkey", "-algorithm", "x25519", "-out", tmp_path / "c.pem"],
                   check=True)  # fmt: skip
    out = tmp_path / "out.bedside"
    for name, password, words in (
        ("a", b"other", "password is another"), ("b", b"", "no private key"),
        ("c", b"", "no Ed25519 key"), ("a.pub", b"", "no private key"),
        ("gone", b"", "cannot read"),
    ):  # fmt: skip
        with pytest.raises(KeyFileError, match=words):
            sign_bundle(bundle, tmp_path / f"{name}.pem", out, ask_password=lambda p=password: p)
    assert not out.exists()
    sign_bundle(bundle, tmp_path / "a.pem", out, ask_password=lambda: b"secret")


def test_a_folder_of_keys_with_something_else_in_it_is_refused(keys):
    folder = keys / "trusted"
    (folder / "README.txt").write_text("whose keys these are")
    assert list(read_trusted_keys(folder).names.values()) == ["ours"]
    (folder / "oops.pem").write_bytes((keys / "ours.pem").read_bytes())
    with pytest.raises(KeyFileError, match=r"oops\.pem is a private key"):
        read_trusted_keys(folder)
    (folder / "oops.pem").write_text("words")
    with pytest.raises(KeyFileError, match="no public key"):
        read_trusted_keys(folder)
    with pytest.raises(KeyFileError, match="has no key"):
        read_trusted_keys(Path(__file__).parent)
    with pytest.raises(KeyFileError, match="cannot read the keys"):
        read_trusted_keys(keys / "gone")


def test_the_rule_of_the_machine_holds_for_python_too(bundle, signed, keys, monkeypatch):
    monkeypatch.setenv(REQUIRE_SIGNED, "1")
    with pytest.raises(UsageError, match="no key is trusted"):
        open_segmenter(read_bundle(signed), precision="f32")
    monkeypatch.setenv(TRUSTED_KEYS, str(keys / "trusted"))
    open_segmenter(read_bundle(signed), precision="f32")
    for path in (bundle, sign(bundle, keys, "theirs", "b.bedside")):
        with pytest.raises(SignatureError):
            open_segmenter(read_bundle(path), precision="f32")
    monkeypatch.setenv(REQUIRE_SIGNED, "0")
    open_segmenter(read_bundle(bundle), precision="f32")
    monkeypatch.setenv(REQUIRE_SIGNED, "perhaps")
    with pytest.raises(UsageError, match="expected 1 or 0"):
        open_segmenter(read_bundle(signed), precision="f32")


COMMANDS = {
    "segment": "segment {image} -m {bundle} -o {out}",
    "folder": "segment {folder} -m {bundle} -o {out}",
    "batch": "segment {folder} -m {bundle} -o {out} --jobs 2",
    "manifest": "segment --manifest {manifest} -o {out}",
    "evaluate": "evaluate {bundle} {data} -o {out}",
    "demo": "demo -m {bundle} -o {out}",
    "bench": "bench {bundle}",
}


@pytest.mark.parametrize("how", ["option", "flag", "machine"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_runs_a_bundle_refuses_one_that_is_not_signed(
    command, how, bundle, keys, monkeypatch, capsys
):
    if how != "machine" and command in ("demo", "bench"):
        how = "machine"
    (keys / "images").mkdir()
    image = write_picture(make_fan(1)[0], keys / "images" / "a.png")
    make_folder(keys / "data", patients=2, images=1)
    line = {"id": "a", "source": str(image), "model": str(bundle)}
    (keys / "cases.jsonl").write_text(json.dumps(line) + "\n")
    text = COMMANDS[command].format(image=image, folder=image.parent, bundle=bundle,
        manifest=keys / "cases.jsonl", data=keys / "data", out=keys / "out")  # fmt: skip
    if how == "option":
        text += f" --trusted-keys {keys / 'trusted'}"
    else:
        monkeypatch.setenv(TRUSTED_KEYS, str(keys / "trusted"))
    if how == "flag":
        text += " --require-signed"
    if how == "machine":
        monkeypatch.setenv(REQUIRE_SIGNED, "yes")
    assert main(shlex.split(text)) == 3
    assert "is not signed" in capsys.readouterr().err
    assert not list(keys.glob("out/**/segmentation*"))


def test_a_signed_bundle_runs_and_workers_know_the_rule(signed, keys, monkeypatch):
    write_picture(make_fan(1)[0], keys / "a.png")
    monkeypatch.setenv(TRUSTED_KEYS, str(keys / "trusted"))
    monkeypatch.setenv(REQUIRE_SIGNED, "1")
    line = {"id": "a", "source": "a.png", "model": "signed.bedside"}
    (keys / "cases.jsonl").write_text(json.dumps(line) + "\n")
    command = ["segment", "--manifest", str(keys / "cases.jsonl"), "-o", str(keys / "out")]
    assert main(command) == 0
    assert (keys / "out" / "a" / "segmentation.png").is_file()


def test_inspect_says_who_has_signed(bundle, signed, keys, capsys):
    fingerprint = fingerprint_of(read_public_key(keys / "ours.pub.pem"))
    assert main(["inspect", str(bundle)]) == 0
    assert re.search(r"Signed\s+not signed", capsys.readouterr().out)
    assert main(["inspect", str(signed), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["signatures"]
    assert told == [{"fingerprint": fingerprint, "name": None, "status": "not trusted"}]
    assert main(["inspect", str(signed), "--json", "--trusted-keys", str(keys / "trusted")]) == 0
    told = json.loads(capsys.readouterr().out)["signatures"]
    assert told == [{"fingerprint": fingerprint, "name": "ours", "status": "trusted"}]


def test_verify_asks_for_a_key_and_refuses_another(bundle, signed, keys, capsys):
    assert main(["verify", str(signed), "--key", str(keys / "ours.pub.pem")]) == 0
    assert "is unchanged since it was signed" in capsys.readouterr().out
    assert main(["verify", str(signed), "--key", str(keys / "theirs.pub.pem")]) == 3
    assert main(["verify", str(bundle), "--key", str(keys / "ours.pub.pem")]) == 3
    assert main(["verify", str(signed), "--key", str(keys / "ours.pem")]) == 3
    assert main(["verify", str(signed)]) == 2


def test_sign_leaves_shipped_bundles_alone_and_asks_for_a_password(keys, tmp_path, monkeypatch):
    from bedside.bundle import shipped_bundles

    name = shipped_bundles()[0].stem
    command = ["sign", name, "--key", str(keys / "ours.pem")]
    assert main(command) == 2
    assert main([*command, "-o", str(tmp_path / "copy.bedside")]) == 0
    assert (
        main(["verify", str(tmp_path / "copy.bedside"), "--key", str(keys / "ours.pub.pem")]) == 0
    )
    assert main(["keygen", str(tmp_path / "locked.pem")]) == 2
    monkeypatch.setenv(PASSWORD, "secret")
    assert main(["keygen", str(tmp_path / "locked.pem")]) == 0
    command = ["sign", str(tmp_path / "copy.bedside"), "--key", str(tmp_path / "locked.pem")]
    assert main(command) == 0
    monkeypatch.delenv(PASSWORD)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(command) == 2


def test_without_cryptography_signatures_name_the_package_and_all_else_works(signed, bundle, keys):
    code = (
        "import sys; sys.modules['cryptography'] = None; from bedside.cli.main import main; "
        "sys.exit(main(sys.argv[1:]))"
    )

    def run(*words):
        done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True,
                              text=True, timeout=300)  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    image = write_picture(make_fan(1)[0], keys / "x.png")
    for words in (
        ("sign", bundle, "--key", keys / "ours.pem"), ("keygen", keys / "x.pem", "--no-password"),
        ("verify", signed, "--key", keys / "ours.pub.pem"),
        ("segment", image, "-m", signed, "-o", keys / "out", "--trusted-keys", keys / "trusted"),
    ):  # fmt: skip
        status, text = run(*words)
        assert (status, 'pip install "cryptography>=46"' in text) == (4, True), text
    status, text = run("inspect", signed)
    assert status == 0
    assert "NOT CHECKED" in " ".join(text.split())
    assert run("inspect", bundle)[0] == 0


def test_the_guide_does_what_it_says(bundle, tmp_path, monkeypatch):
    text = GUIDE.read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "my-data", patients=8, images=1, values=(1, 2))
    (tmp_path / "images").mkdir()
    write_picture(make_fan(1)[0], tmp_path / "images" / "a.png")
    (tmp_path / "my.bedside").write_bytes(bundle.read_bytes())
    write_picture(make_fan(1)[0], tmp_path / "image.png")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
             for line in block.splitlines()]  # fmt: skip
    assert len(lines) > 12
    for line in lines:
        if line.startswith("export "):
            name, _, value = shlex.split(line)[1].partition("=")
            monkeypatch.setenv(name, value)
        elif line.startswith("bedside "):
            assert main(shlex.split(line)[1:]) == 0, line
        else:
            subprocess.run(line, shell=True, check=True)
    assert (tmp_path / "out2" / "a" / "segmentation.png").is_file()
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, str(GUIDE), "exec"), {})
