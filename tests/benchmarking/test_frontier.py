import json
import re

import pytest

from bedside.errors import DataError
from frontier_page import format_page
from frontier_pairs import pair_rows
from frontier_plot import draw_frontier
from frontier_rows import make_rows
from pareto import Merged, Point, find_defeats, find_frontier, merge_seeds, read_last

OURS = Point("tiny", 2.0, 0.90, True)


def make_result(network, *, seed=0, dice=0.9, epochs=20, int8=True):
    return {
        "network": network,
        "seed": seed,
        "epochs": epochs,
        "parameters": 1000,
        "split": {"seed": 0},
        "mean_dice": {"mean": dice, "low": dice - 0.02, "high": dice + 0.02},
        "structures": {"LV": {"dice": {"mean": dice}}, "LA": {"dice": {"mean": dice - 0.1}}},
        "precisions": [
            {"precision": "f32", "admissible": True},
            {"precision": "int8", "admissible": int8},
        ],
    }


def make_latency(**times_ms):
    rows = [
        {
            "network": name,
            "title": name.upper(),
            "source": "a library",
            "parameters": 1000,
            "times_ms": {"f32": [f32, f32, f32], "int8": [int8, int8, int8]},
        }
        for name, (f32, int8) in times_ms.items()
    ]
    about = {"input_px": [8, 8], "threads": 2, "rounds": 1, "machine": ["- Processor: any"]}
    return about | {"rows": rows}


def test_the_frontier_leaves_out_what_another_beats_in_time_or_accuracy():
    slower = Point("slower", 3.0, 0.90, False)
    worse = Point("worse", 2.0, 0.89, False)
    better = Point("better", 9.0, 0.91, False)
    fast = Point("fast", 1.0, 0.70, False)
    found = find_frontier([slower, better, OURS, worse, fast])
    assert found == [fast, OURS, better]


def test_equals_stand_on_the_frontier_together():
    twin = Point("twin", OURS.ms, OURS.dice, False)
    assert set(find_frontier([OURS, twin])) == {OURS, twin}


@pytest.mark.parametrize(
    ("peer", "beaten"),
    [
        (Point("faster and as accurate", 1.9, 0.90, False), True),
        (Point("faster, less accurate", 1.0, 0.899, False), False),
        (Point("more accurate, as fast", 2.0, 0.95, False), False),
        (Point("another of ours", 1.0, 0.95, True), False),
    ],
)
def test_only_a_faster_peer_that_is_as_accurate_defeats_ours(peer, beaten):
    defeats = find_defeats([OURS, peer], low_ms=0.5, high_ms=10)
    assert defeats == ([(peer, OURS)] if beaten else [])


def test_ours_beyond_the_claimed_range_defend_nothing():
    slow = Point("base", 11.0, 0.90, True)
    peer = Point("peer", 5.0, 0.95, False)
    assert find_defeats([slow, peer], low_ms=0.5, high_ms=10) == []


def test_seeds_of_a_network_are_averaged_and_a_precision_must_hold_in_each():
    merged = merge_seeds(
        [
            make_result("unet", seed=1, dice=0.92, int8=False),
            make_result("unet", seed=0, dice=0.90),
            make_result("ours:nano"),
        ]
    )
    unet = merged["unet"]
    assert unet.seeds == (0, 1)
    assert unet.mean_dice == pytest.approx((0.91, 0.89, 0.93))
    assert unet.structures == pytest.approx({"LV": 0.91, "LA": 0.81})
    assert unet.admissible == ("f32",)
    assert unet.barred == ("int8",)
    assert merged["ours:nano"].admissible == ("f32", "int8")


def test_of_a_network_in_two_folders_of_results_the_last_counts(tmp_path):
    for folder, name, seed, dice in (
        ("old", "unet", 0, 0.8),
        ("old", "unet", 1, 0.8),
        ("old", "segresnet", 0, 0.7),
        ("new", "unet", 0, 0.9),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / f"{name}.{seed}.json"
        path.write_text(json.dumps(make_result(name, seed=seed, dice=dice)))
    merged = merge_seeds(read_last([tmp_path / "old", tmp_path / "new"]))
    assert {name: each.mean_dice[0] for name, each in merged.items()} == {
        "unet": 0.9,
        "segresnet": 0.7,
    }


@pytest.mark.parametrize(
    ("second", "said"),
    [({"seed": 0}, "one seed"), ({"seed": 1, "epochs": 30}, r"epochs differs.*\[20, 30\]")],
)
def test_results_that_are_no_repeats_of_each_other_are_not_averaged(second, said):
    with pytest.raises(DataError, match=said):
        merge_seeds([make_result("unet"), make_result("unet", **second)])


def test_the_fastest_precision_counts_only_if_it_keeps_the_accuracy():
    results = merge_seeds([make_result("a", int8=False), make_result("b")])
    rows = make_rows(make_latency(a=(4.0, 1.0), b=(6.0, 3.0), c=(9.0, 8.0)), results)
    assert {row.network: row.precision for row in rows} == {"a": "f32", "b": "int8", "c": "int8"}
    assert [row.network for row in rows] == ["b", "a", "c"]
    assert [row.point.ms for row in rows if row.point] == [3.0, 4.0]


def test_a_precision_that_was_not_checked_counts_and_is_marked():
    unchecked = make_result("a") | {"trained_on": "a GPU"}
    unchecked["precisions"] = unchecked["precisions"][:1]
    latency = make_latency(a=(4.0, 1.0))
    rows = make_rows(latency, merge_seeds([unchecked]))
    assert rows[0].precision == "int8"
    page = format_page(latency, rows, plot="plot.svg")
    assert "1.00 ? |" in page
    assert "elsewhere: A on a GPU." in page


def test_an_untrained_network_is_shown_by_its_cost_alone():
    latency = make_latency(a=(4.0, 1.0), c=(9.0, 8.0))
    rows = make_rows(latency, merge_seeds([make_result("a", int8=False)]))
    page = format_page(latency, rows, plot="plot.svg")
    line = next(line for line in page.splitlines() if line.startswith("| C "))
    assert "| not trained |  |  |  | int8 | 8.00 |" in line
    assert "1.00 *" in page
    assert "Nothing can be said" in page


def test_the_page_names_every_peer_that_beats_ours():
    latency = make_latency(**{"ours:x": (3.0, 2.0), "unet": (1.0, 0.9)})
    rows = make_rows(latency, merge_seeds([make_result("ours:x"), make_result("unet")]))
    page = format_page(latency, rows, plot="plot.svg")
    assert "UNET (0.90 ms, 0.9000) is faster than OURS:X (2.00 ms, 0.9000)" in page
    assert "from the fastest: UNET (0.90 ms, 0.9000)." in page
    assert "Nothing can be said" in format_page(latency, rows, plot="p.svg", claim_ms=(3, 9))


def test_the_plot_names_every_point_once_and_shows_ours_apart():
    points = [OURS, Point("U-Net <b>", 20.0, 0.85, False), Point("near", 2.05, 0.9005, False)]
    svg = draw_frontier(points, x_title="ms", y_title="Dice")
    assert svg.count("<circle") == 1
    assert svg.count(">tiny</text>") == svg.count(">near</text>") == 1
    assert "U-Net &lt;b&gt;" in svg


def test_a_merged_result_says_what_it_stands_on():
    merged = merge_seeds([make_result("unet")])["unet"]
    assert merged == Merged(
        "unet",
        seeds=(0,),
        epochs=20,
        mean_dice=pytest.approx((0.9, 0.88, 0.92)),
        structures=pytest.approx({"LV": 0.9, "LA": 0.8}),
        admissible=("f32", "int8"),
        barred=(),
        trained_on=(),
        parameters=1000,
    )


def test_a_network_far_below_is_an_arrow_with_its_dice_and_no_point():
    points = [OURS, Point("U-Net", 20.0, 0.89, False), Point("UNETR", 90.0, 0.67, False)]
    svg = draw_frontier(points, x_title="ms", y_title="Dice")
    assert "UNETR: 0.670, below" in svg
    assert svg.count('width="8" height="8"') == 1
    assert svg.count("h10l-5 8z") == 1


def test_one_far_below_that_is_the_fastest_does_not_lift_the_frontier():
    points = [OURS, Point("UNETR", 0.5, 0.67, False)]
    svg = draw_frontier(points, x_title="ms", y_title="Dice")
    stairs = re.search(r'<path d="([^"]*)" fill="none" stroke="#8a949e"', svg)[1]
    # It begins at the lower edge, below all that the plot shows.
    assert stairs.split("L")[0].split()[1] == "396.0"


def with_cases(result, *, f32, int8):
    """A result that keeps cases: a Dice a patient, of two structures that lie around it."""
    dice = {
        precision: {
            f"p{number}": {f"p{number}_ED": [value - 0.1, None, value + 0.1]}
            for number, value in enumerate(values)
        }
        for precision, values in (("f32", f32), ("int8", int8))
    }
    for check, values in zip(result["precisions"], (f32, int8), strict=True):
        mean = sum(values) / len(values)
        check["test_mean_dice"] = {"mean": mean, "low": min(values), "high": max(values)}
    return result | {"case_dice": dice}


def test_a_classic_is_paired_with_ours_nearest_in_time_in_the_precision_that_counts():
    own = [0.70 + 0.01 * number for number in range(10)]
    better = [value + 0.02 for value in own]
    results = merge_seeds(
        [
            with_cases(make_result("ours:x"), f32=own, int8=own),
            with_cases(make_result("ours:far"), f32=better, int8=better),
            with_cases(make_result("peer"), f32=own, int8=better),
            make_result("old"),
        ]
    )
    latency = make_latency(
        **{"ours:x": (3.0, 2.0), "ours:far": (30.0, 20.0), "peer": (9.0, 4.0), "old": (9.0, 9.0)}
    )
    rows = make_rows(latency, results)
    (pair,) = pair_rows(rows)
    assert (pair.peer.network, pair.own.network, pair.patients) == ("peer", "ours:x", 10)
    assert pair.difference.mean == pytest.approx(0.02)
    assert (pair.difference.low, pair.difference.high) == pytest.approx((0.02, 0.02))
    page = format_page(latency, rows, plot="plot.svg")
    assert "| +0.0200 (+0.0200 to +0.0200) | more accurate than ours |" in page
    assert "single cases was not kept of OLD." in page
    assert "0.7650 (0.720-0.810) |" in page  # int8's own Dice, not that of f32
    assert "0.9000 (0.880-0.920) f32 |" in page


def test_pairs_count_the_patients_that_both_were_scored_on():
    few = with_cases(make_result("peer"), f32=[0.8] * 8, int8=[0.8] * 8)
    many = with_cases(make_result("ours:x"), f32=[0.9] * 12, int8=[0.9] * 12)
    rows = make_rows(make_latency(**{"ours:x": (3, 2), "peer": (3, 2)}), merge_seeds([few, many]))
    (pair,) = pair_rows(rows)
    assert pair.patients == 8
    assert pair.verdict == "less accurate than ours"


def test_the_page_says_who_had_other_patients_or_another_precision():
    one, two = make_result("ours:x"), make_result("unet")
    one |= {"split": {"patients": {"train": 315, "test": 89}}, "trained_in": "f32"}
    two["split"] = {"patients": {"train": 314, "test": 90}}
    latency = make_latency(**{"ours:x": (3.0, 2.0), "unet": (4.0, 3.0)})
    page = format_page(latency, make_rows(latency, merge_seeds([one, two])), plot="plot.svg")
    assert "- in f32, on 315 patients, scored on 89: OURS:X" in page
    assert "on 314 patients, scored on 90: UNET" in page
    same = make_rows(latency, merge_seeds([one, two | one | {"network": "unet"}]))
    assert "Not all were trained alike" not in format_page(latency, same, plot="plot.svg")


def test_the_page_names_data_units_and_how_learning_rates_were_chosen():
    heads = {"data": "HEADS", "unit": "exams"}
    tried = {"learning_rate": 2e-3, "rates": {"0.001": 0.91, "0.002": 0.93}}
    results = [
        with_cases(make_result(name), f32=dice, int8=dice) | heads | tried
        for name, dice in (("ours:x", [0.9] * 9), ("unet", [0.8] * 9))
    ]
    latency = make_latency(**{"ours:x": (3.0, 2.0), "unet": (4.0, 3.0)})
    page = format_page(latency, make_rows(latency, merge_seeds(results)), plot="plot.svg")
    assert "the same exams of HEADS" in page
    assert "- UNET: 0.002 (0.9100 with 0.001, 0.9300 with 0.002)" in page
    assert "| its ms | exams |" in page
    assert "patients" not in page
