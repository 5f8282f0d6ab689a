import json
from dataclasses import replace

import pytest

from bedside.autopilot.latency.blocks import list_blocks
from bedside.autopilot.latency.device_table import DeviceTable, fit_line
from bedside.autopilot.latency.timing import Setting
from bedside.errors import UsageError
from bedside.spec import LevelSpec
from models_for_tests import make_spec

SPEC, SIZE = make_spec().model, (64, 64)


class Counting:
    """A clock by which a graph takes a ms for every 10 kB, and that knows what it timed."""

    def __init__(self, *, load=1.0):
        self.load, self.timed = load, []

    def __call__(self, graphs, total_s):
        self.timed += graphs
        return {name: self.load * len(each.graph) / 1e4 for name, each in graphs.items()}


def make_table(folder, clock=None):
    return DeviceTable(Setting(), folder=folder, clock=clock or Counting())


def test_the_parts_of_a_network_are_all_its_convolutions():
    parts = list_blocks(SPEC, SIZE)
    names = [part.name for part in parts]
    assert names == [
        "stem.0", "stem.1", "levels.0.0", "downs.0", "levels.1.0",
        "laterals.0", "laterals.1", "fusions.0", "head",
    ]  # fmt: skip
    shapes = {part.name: part.shape for part in parts}
    assert shapes["stem.0"] == (1, 1, 64, 64)
    assert shapes["levels.1.0"] == (1, 32, 8, 8)
    assert shapes["fusions.0"] == (1, 16, 8, 8)


def test_parts_have_one_key_only_if_they_take_the_same_time():
    def key(level, size=SIZE):
        spec = replace(SPEC, levels=(SPEC.levels[0], level))
        return next(part.key for part in list_blocks(spec, size) if part.name == "levels.1.0")

    level = SPEC.levels[1]
    deeper = replace(level, depth=2)
    assert key(deeper) == key(level)
    others = [
        replace(level, channels=40),
        replace(level, window=8),
        replace(level, block="dense"),
        replace(level, exchange=False),
        LevelSpec("conv", channels=32, depth=1),
    ]
    assert len({key(level), key(level, (128, 128)), *map(key, others)}) == 7


def test_widths_of_single_blocks_have_keys_of_their_own():
    narrow = replace(SPEC, hidden={"levels.0.0": 16})
    wide, thin = (
        {part.name: part.key for part in list_blocks(spec, SIZE)} for spec in (SPEC, narrow)
    )
    assert [name for name in wide if wide[name] != thin[name]] == ["levels.0.0"]


def test_what_was_measured_is_kept_and_not_measured_again(tmp_path):
    clock = Counting()
    first = make_table(tmp_path, clock)
    assert first.measure([SPEC], SIZE) == 9
    total = first.add_up(SPEC, SIZE)
    clock.timed.clear()
    again = make_table(tmp_path, clock)
    assert again.measure([SPEC], SIZE) == 0
    assert clock.timed == []
    assert again.add_up(SPEC, SIZE) == total
    assert total == pytest.approx(sum(again.times_ms[each.key] for each in list_blocks(SPEC, SIZE)))


def test_times_of_another_machine_are_not_used(tmp_path):
    table = make_table(tmp_path)
    table.measure([SPEC], SIZE)
    content = json.loads(table.path.read_text())
    content["fingerprint"] = "0123456789abcdef"
    table.path.write_text(json.dumps(content))
    assert make_table(tmp_path).times_ms == {}


def test_a_damaged_table_is_measured_anew(tmp_path):
    table = make_table(tmp_path)
    table.measure([SPEC], SIZE)
    table.path.write_text("{")
    assert make_table(tmp_path).measure([SPEC], SIZE) == 9


def test_a_lot_that_was_timed_on_a_busy_machine_fits_the_rest(tmp_path):
    quiet = make_table(tmp_path / "quiet")
    quiet.measure([SPEC], SIZE)
    busy = make_table(tmp_path / "busy")
    busy.measure([replace(SPEC, levels=SPEC.levels[:1])], SIZE)
    later = make_table(tmp_path / "busy", Counting(load=3))
    later.measure([SPEC], SIZE)
    assert later.add_up(SPEC, SIZE) == pytest.approx(quiet.add_up(SPEC, SIZE), rel=1e-3)


def test_settings_do_not_mix(tmp_path):
    make_table(tmp_path).measure([SPEC], SIZE)
    assert DeviceTable(Setting(precision="bf16"), folder=tmp_path).times_ms == {}
    assert DeviceTable(Setting(threads=2), folder=tmp_path).times_ms == {}


def test_a_table_keeps_what_another_process_has_added(tmp_path):
    one, other = make_table(tmp_path), make_table(tmp_path)
    one.measure([SPEC], SIZE)
    other.measure([replace(SPEC, decoder_channels=24)], SIZE)
    assert set(one.times_ms) <= set(make_table(tmp_path).times_ms)


def test_the_table_lies_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    table = DeviceTable(Setting(), clock=Counting())
    assert table.path.parent == tmp_path / "bedside"


def test_without_a_whole_network_nothing_is_predicted(tmp_path):
    table = make_table(tmp_path)
    table.measure([SPEC], SIZE)
    with pytest.raises(UsageError, match="calibrate first"):
        table.fit(SIZE)


def test_a_fit_tells_how_far_off_it_would_have_been():
    networks = {"a": (1.0, 1.5), "b": (2.0, 2.5), "c": (4.0, 4.5), "odd": (3.0, 7.0)}
    errors = fit_line(networks).errors
    assert min(errors, key=errors.get) == "odd"
    assert fit_line({"only": (2.0, 3.0)}).predict(4.0) == pytest.approx(6.0)


def test_times_by_the_real_clock_follow_the_size_of_networks(tmp_path):
    table = DeviceTable(Setting(), folder=tmp_path)
    wide = replace(SPEC, levels=(replace(SPEC.levels[0], channels=128), SPEC.levels[1]))
    table.measure([SPEC, wide], SIZE)
    assert 0 < table.add_up(SPEC, SIZE) < table.add_up(wide, SIZE)
    whole = table.time_whole({"narrow": SPEC, "wide": wide}, SIZE)
    assert whole["narrow"] < whole["wide"]
    for name, spec in (("narrow", SPEC), ("wide", wide)):
        table.add_network(name, spec, SIZE, whole[name])
    fit = table.fit(SIZE)
    # The sum of blocks says something about the whole: within a factor, on any machine.
    assert 0.25 < fit.predict(table.add_up(wide, SIZE)) / whole["wide"] < 4
