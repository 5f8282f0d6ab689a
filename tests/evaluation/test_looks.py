import json
import threading
from pathlib import Path

import pytest

from bedside.bundle import read_bundle, shipped_bundles
from bedside.errors import FormatError
from bedside.evaluation.looks import (
    LEDGER,
    describe_looks,
    find_ledger,
    hash_part,
    read_looks,
    record_look,
    record_look_at,
)
from models_for_tests import make_bundle


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path)


def look(ledger, bundle, dice=0.9):
    return record_look(ledger, bundle, what="evaluate", cases=3, dice={"inner": dice})


def test_the_nearest_ledger_above_the_output_is_the_project_s(tmp_path):
    assert find_ledger(tmp_path / "a" / "b") == tmp_path / "a" / "b" / LEDGER
    (tmp_path / LEDGER).touch()
    assert find_ledger(tmp_path / "a" / "b") == tmp_path / LEDGER
    (tmp_path / "a" / ".git").mkdir(parents=True)
    assert find_ledger(tmp_path / "a" / "b") == tmp_path / "a" / LEDGER


def test_looks_are_appended_and_read_back(tmp_path, bundle):
    ledger = tmp_path / LEDGER
    assert "first look" in describe_looks(look(ledger, bundle), ledger)
    looks = look(ledger, bundle, dice=None)
    assert "look 2" in describe_looks(looks, ledger)
    assert read_looks(ledger) == looks
    assert looks[0].part == hash_part(bundle.split["test"])
    assert looks[1].dice == {"inner": None}


def test_the_ledger_of_this_repository_holds_looks_at_each_shipped_bundle_s_test_part():
    parts = {each.part for each in read_looks(Path(__file__).parents[2] / LEDGER)}
    for path in shipped_bundles():
        assert hash_part(read_bundle(path).split["test"]) in parts, path.name


def test_a_network_that_is_in_no_bundle_is_looked_at_too(tmp_path, bundle):
    ledger = tmp_path / LEDGER
    look(ledger, bundle)
    looks = record_look_at(
        ledger, bundle.split["test"], what="train", name="a U-Net", sha256="ab", data="made",
        cases=3, dice={"inner": 0.123456},
    )  # fmt: skip
    assert len(looks) == 2
    assert (looks[1].bundle, looks[1].sha256, looks[1].dice) == (
        "a U-Net",
        "ab",
        {"inner": 0.12346},
    )


def test_another_test_part_is_another_count(tmp_path, bundle):
    ledger = tmp_path / LEDGER
    look(ledger, bundle)
    record = json.loads(ledger.read_text())
    ledger.write_text(json.dumps(record | {"part": hash_part(["somebody else"])}) + "\n")
    assert len(look(ledger, bundle)) == 1
    assert len(read_looks(ledger)) == 2


def test_looks_of_several_threads_are_all_there(tmp_path, bundle):
    ledger = tmp_path / LEDGER
    threads = [threading.Thread(target=look, args=(ledger, bundle)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_looks(ledger)) == 8


def test_a_line_that_is_cut_off_is_named(tmp_path, bundle):
    ledger = tmp_path / LEDGER
    look(ledger, bundle)
    ledger.write_text(ledger.read_text()[:40])
    with pytest.raises(FormatError, match="line 1, is not the record of a look"):
        read_looks(ledger)
