import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedside.batch.manifest import Case, name_cases, read_manifest, read_shard, take_shard
from bedside.errors import FormatError, UsageError


def write(folder, *lines):
    path = folder / "cases.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_paths_are_relative_to_the_manifest_and_models_may_be_names(tmp_path):
    (tmp_path / "mine.bedside").write_bytes(b"x")
    lines = [
        {"id": "a", "source": "deep/a.nii.gz"},
        {"id": "b.1", "source": "/data/b.png", "channels": ["c.png"], "model": "mine.bedside"},
        {"id": "c", "source": "c.png", "model": "camus-4ch"},
    ]
    path = write(tmp_path, json.dumps(lines[0]), "", *map(json.dumps, lines[1:]))
    assert read_manifest(path) == (
        Case("a", tmp_path / "deep/a.nii.gz"),
        Case("b.1", Path("/data/b.png"), (tmp_path / "c.png",), str(tmp_path / "mine.bedside")),
        Case("c", tmp_path / "c.png", (), "camus-4ch"),
    )


GOOD = '{"id": "a", "source": "a.png"}'
BAD = {
    "{": "JSON",
    "[]": "table",
    '{"id": "b"}': 'missing key "source"',
    '{"id": 3, "source": "x"}': "id is 3",
    '{"id": "b", "sauce": "x"}': 'Did you mean "source"',
    '{"id": "b", "id": "c", "source": "x"}': "twice",
    '{"id": "b", "source": NaN}': "NaN",
    '{"id": "b", "source": ""}': "empty",
    '{"id": "b", "source": "x\\u0000y"}': "zero byte",
    '{"id": "b", "source": "x", "channels": "y"}': "channels",
    '{"id": "a", "source": "x"}': "taken",
    '{"id": "A", "source": "x"}': "taken",
    "[" * 9999: "JSON",
    '{"id": "b", "source": "%s"}' % ("x" * 2**20): "bytes",
}


@pytest.mark.parametrize(("line", "said"), BAD.items(), ids=[line[:40] for line in BAD])
def test_a_bad_line_is_refused_by_its_number(line, said, tmp_path):
    with pytest.raises(FormatError, match="line 3") as caught:
        read_manifest(write(tmp_path, GOOD, "", line))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/b", "a\\b", "/a", ".a", "a.", "-a", "a b", "ä", "a\n", "a" * 101,
     "con", "NUL.x", "results.jsonl", "results-1-of-2.jsonl"],
)  # fmt: skip
def test_an_id_that_is_no_safe_folder_is_refused(name, tmp_path):
    line = json.dumps({"id": name, "source": "a.png"})
    with pytest.raises(FormatError, match="line 1"):
        read_manifest(write(tmp_path, line))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "cases.jsonl"
    path.write_bytes(GOOD.encode() + b"\n\xff\xfe\n")
    with pytest.raises(FormatError, match="line 2"):
        read_manifest(path)


def test_a_manifest_that_is_not_there_or_empty_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"nowhere\.jsonl"):
        read_manifest(tmp_path / "nowhere.jsonl")
    with pytest.raises(FormatError, match="no case"):
        read_manifest(write(tmp_path, "", " "))


@given(st.lists(st.integers(), max_size=40), st.integers(1, 50))
def test_shards_are_disjoint_complete_and_even(items, count):
    items = list(enumerate(items))
    shards = [take_shard(items, number, count) for number in range(1, count + 1)]
    assert sorted(item for shard in shards for item in shard) == items
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_lines_added_at_the_end_move_no_case_to_another_shard():
    short, long = ("abcdefg"[:end] for end in (5, 7))
    for number in (1, 2, 3):
        before = take_shard(short, number, 3)
        assert take_shard(long, number, 3)[: len(before)] == before


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1.0/2"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="1/4"):
        read_shard(text)


def test_no_case_of_a_folder_lies_in_the_results_of_another():
    root = Path("data")
    files = ["a.png", "a.jpg", "b.png", "b/a.png", "b/c/d.png", "b/c.png", "e"]
    names = [case.id for case in name_cases([root / file for file in files], root)]
    assert names == ["a.png", "a.jpg", "b.png", "b/a", "b/c/d", "b/c.png", "e"]
    assert not [(x, y) for x in names for y in names if y.startswith(f"{x}/")]


def test_a_variable_of_a_shard_counts_from_zero(monkeypatch):
    monkeypatch.setenv("INDEX", "2")
    assert read_shard("env:INDEX/8") == (3, 8)
    for text, value in (("env:INDEX/2", "2"), ("env:INDEX/8", "two"), ("env:INDEX/8", "-1")):
        monkeypatch.setenv("INDEX", value)
        with pytest.raises(UsageError, match=f"{value} in the variable"):
            read_shard(text)
    monkeypatch.delenv("INDEX")
    with pytest.raises(UsageError, match="INDEX is not set"):
        read_shard("env:INDEX/8")
