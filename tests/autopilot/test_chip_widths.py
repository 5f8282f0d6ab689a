"""Widths of networks for a chip: multiples of the channels that fill its units."""

import pytest

from bedside.autopilot.compress.pruning import UnitSlice, remove_units
from bedside.autopilot.search.space import align_channels, draw_specs
from bedside.autopilot.target import CompressionSettings
from bedside.cli.budget import read_multiple
from bedside.cli.compress import Settings, read_effort
from bedside.compression.groups import list_groups
from bedside.compression.importance import measure_importance
from bedside.errors import UsageError
from bedside.models import TrainedNetwork, create
from bedside.spec import named_spec


def list_widths(spec):
    return [spec.stem_channels, spec.decoder_channels, *(each.channels for each in spec.levels)]


def settings_for(tmp_path, chip):
    return Settings(source=tmp_path, output=tmp_path, max_size="1MB", chip=chip)


@pytest.mark.parametrize("multiple", [16, 32])
def test_drawn_networks_are_rounded_up_and_still_build(multiple):
    for spec in draw_specs(named_spec("nano"), (64, 64), seed=3, count=3):
        aligned = align_channels(spec, multiple)
        assert not any(width % multiple for width in list_widths(aligned))
        pairs = zip(list_widths(spec), list_widths(aligned), strict=True)
        assert all(0 <= after - before < multiple for before, after in pairs)
        assert align_channels(aligned, multiple) == aligned
    create(aligned)


def test_pruning_leaves_multiples_however_many_units_go():
    spec = align_channels(named_spec("nano"), 16)
    network = TrainedNetwork.of(create(spec), spec)
    groups = list_groups(network)
    importance = measure_importance(network, (), None, method="magnitude")
    name = next(
        name for name, each in groups.items() if name.startswith("hidden") and each.units >= 48
    )
    units = groups[name].units
    slices = [UnitSlice(name, 8, 0.1, 1.0)]
    pruned = remove_units(network, importance, groups, slices, multiple=16)
    assert list_groups(pruned)[name].units == units
    pruned = remove_units(network, importance, groups, slices * 5, multiple=16)
    assert list_groups(pruned)[name].units == units - 32


def test_a_chip_gives_compress_its_multiple(tmp_path):
    assert read_effort(settings_for(tmp_path, "rk3588")).multiple == 32
    assert read_effort(settings_for(tmp_path, None)).multiple == CompressionSettings.multiple == 8
    with pytest.raises(UsageError, match="edge-tpu does not know how channels are aligned"):
        read_multiple(settings_for(tmp_path, "edge-tpu"))
