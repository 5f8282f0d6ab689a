import base64
import json
import re
from html.parser import HTMLParser
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest

import makers
from bedside.cli.console import group_warnings, summary
from bedside.errors import OutputError
from bedside.report.areas import measure_areas
from bedside.report.curves import draw_curves, nice_ticks
from bedside.report.page import to_html, write_report_html
from bedside.report.plot_labels import measure
from bedside.report.record import make_report, report_mapping, to_json, write_report_json
from bedside.spec import DISCLAIMER
from bedside.volume import ImageSequence, LabelMap
from report_makers import PICTURE, REGION, STAGES, make_areas, make_facts, sample_report

REQUIRED = {
    "frames", "fps", "latency_ms", "peak_memory_mb", "startup_ms", "backend", "precision",
    "threads", "bundle", "structures", "warnings",
}  # fmt: skip


def test_areas_by_hand():
    cavity, myocardium, atrium = measure_areas(
        LabelMap(make_areas(50, 20, 40), (0.5, 2.0)), makers.LABELS, region=REGION
    )
    assert cavity.area_px == (50, 20, 40)
    # 0.5 mm x 2 mm = 1 mm2 = 0.01 cm2 a pixel.
    assert cavity.area_cm2 == (0.5, 0.2, 0.4)
    assert cavity.area_fraction == (0.5, 0.2, 0.4)
    change = cavity.fractional_area_change
    assert (change.largest_px, change.largest_frame) == (50, 1)
    assert (change.smallest_px, change.smallest_frame) == (20, 2)
    assert change.fraction == 0.6
    assert myocardium.area_px == (3, 3, 3)
    assert myocardium.fractional_area_change.fraction == 0
    assert atrium.area_px == (0, 0, 0)
    assert atrium.fractional_area_change.fraction is None


def test_without_a_scale_there_are_no_square_centimetres():
    areas = measure_areas(LabelMap(make_areas(5, 6)), makers.LABELS, region=REGION)
    assert [structure.area_cm2 for structure in areas] == [None, None, None]


def test_one_frame_has_no_change():
    areas = measure_areas(LabelMap(make_areas(5)), makers.LABELS, region=REGION)
    assert areas[0].fractional_area_change is None


def test_slices_of_a_scan_have_a_volume_and_no_change_over_time():
    place = {"slice_spacing_mm": 5.0}
    report = sample_report(50, 20, 40, spacing_mm=(0.5, 2.0), place=place)
    # 110 voxels of 0.5 x 2 x 5 mm = 5 mm3 each.
    assert report.structures[0].volume_ml == 0.55
    assert report.structures[0].fractional_area_change is None
    assert report.slices
    _, text = read_page(report)
    assert "Volumes" in text
    assert "0.55" in text


def test_a_volume_without_a_scale_is_not_guessed():
    report = sample_report(50, 20, place={"slice_spacing_mm": 5.0})
    assert report.structures[0].volume_ml is None


def test_areas_agree_with_counting_on_random_labels():
    array = np.random.default_rng(0).integers(0, 4, (7, 33, 21)).astype(np.uint8)
    areas = measure_areas(LabelMap(array), makers.LABELS, region=REGION)
    for label, structure in zip(makers.LABELS, areas, strict=True):
        assert structure.area_px == tuple((array == label.value).sum(axis=(1, 2)).tolist())


def test_latency_and_speed_by_hand():
    report = sample_report(*[10] * 101)
    # Totals are 1, 2, ... 101 ms: together 5151 ms.
    assert report.latency_ms["total"].p50 == 51
    assert report.latency_ms["total"].p95 == 96
    assert report.latency_ms["total"].p99 == 100
    assert report.latency_ms["network"].p50 == 5.1
    assert report.fps == round(101 / 5.151, 2)


def test_a_structure_that_comes_and_goes_is_warned_of():
    report = sample_report(10, 0, 5, warnings=("first",))
    assert report.warnings[0] == "first"
    assert [text for text in report.warnings if "LV cavity was found in 2 of 3" in text]
    assert not [text for text in report.warnings if "myocardium" in text]


def test_the_file_holds_what_machines_rely_on(tmp_path):
    report = sample_report(50, 20, spacing_mm=(0.5, 0.5), warnings=("w",))
    path = write_report_json(report, tmp_path / "report.json", files=["overlay.gif"])
    found = json.loads(path.read_text("utf-8"))
    assert set(found) >= REQUIRED
    assert found["frames"] == 2
    assert set(found["latency_ms"]) == set(STAGES)
    assert set(found["latency_ms"]["total"]) == {"p50", "p95", "p99"}
    assert set(found["bundle"]) >= {"name", "sha256", "bytes", "license"}
    assert found["structures"][0]["area_px"] == [50, 20]
    assert found["structures"][0]["area_cm2"] == [0.125, 0.05]
    assert found["region"] == {"top": 0, "left": 0, "bottom": 10, "right": 10}
    assert found["files"] == ["overlay.gif"]
    assert found["disclaimer"] == DISCLAIMER
    assert found == json.loads(to_json(report_mapping(report, files=["overlay.gif"])))


@pytest.mark.parametrize(
    "value", [{}, [], {"a": []}, {"a": {}}, [[1, 2], [3]], {"a": [{"b": 'c"d'}]}, "x", None, 1.5]
)
def test_json_is_read_back_as_it_was(value):
    assert json.loads(to_json(value)) == value


def test_what_is_no_number_never_reaches_a_file():
    with pytest.raises(ValueError, match="JSON"):
        to_json({"a": [float("nan")]})


class Page(HTMLParser):
    """Collects text, tags and addresses of a page, and checks that every element closes."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags, self.sources, self.open = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read_page(report):
    page = Page(to_html(report, picture=PICTURE))
    assert page.open == []
    return page, " ".join(" ".join(page.text).split())


def test_the_page_stands_alone_and_shows_its_picture():
    page, _ = read_page(sample_report(50, 20))
    assert len(page.sources) == 1
    kind, _, content = page.sources[0].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(content) == PICTURE
    assert "script" not in page.tags


def test_the_page_tells_numbers_units_provenance_and_disclaimer():
    report = sample_report(50, 20, spacing_mm=(0.5, 2.0), warnings=("a warning",))
    _, text = read_page(report)
    for told in ("cine.dcm", "tiny 1.0", "cm²", "0.50", "60.0 %", "time in ms", "a warning",
                 "CC0", "ab" * 32, "openvino, f32, 2 threads", DISCLAIMER):  # fmt: skip
        assert told in text


def test_without_scale_or_time_the_page_says_pixels_and_frames():
    _, text = read_page(sample_report(5000 % 97, 20, frame_time_ms=None))
    assert "area in px" in text
    assert "time in ms" not in text
    assert "scale unknown" in text


def test_a_still_has_no_curve():
    page, text = read_page(sample_report(50))
    assert "svg" not in page.tags
    assert "Area, px" in text


def test_text_from_outside_is_escaped():
    evil = "<script>alert('&')</script>"
    report = sample_report(5, 6, source=evil, warnings=(evil,), license_text=evil)
    page, text = read_page(report)
    assert "script" not in page.tags
    assert text.count(evil) == 4


@pytest.mark.parametrize("areas", [(0, 0), (1, 1), (50, 20, 30)])
def test_curves_are_well_formed_and_inside_their_frame(areas):
    positions = [40.0 * index for index in range(len(areas))]
    drawn = draw_curves(
        positions, {"a <b>": ((1, 2, 3), areas)}, x_title="time in ms", y_title="area in px"
    )
    svg = ElementTree.fromstring(drawn)
    width, height = (float(value) for value in svg.get("viewBox").split()[2:])
    (line,) = svg.findall("{http://www.w3.org/2000/svg}polyline")
    points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
    assert len(points) == len(areas)
    assert all(0 < x < width and 0 < y < height for x, y in points)
    # Larger values stand higher, evenly.
    ys = np.array([y for _, y in points])
    slope = np.polyfit(areas, ys, 1)[0] if len(set(areas)) > 1 else -1
    assert slope < 0
    assert re.search("a &lt;b&gt;", drawn)


@pytest.mark.parametrize("high", [0.003, 1, 7, 10, 99, 1e6])
def test_ticks_are_round_and_reach_the_highest_value(high):
    ticks = nice_ticks(0, high)
    assert ticks[0] == 0
    assert ticks[-1] >= high * (1 - 1e-9)
    assert 3 <= len(ticks) <= 8
    assert np.ptp(np.diff(ticks)) < 1e-9 * high


def test_reports_that_cannot_be_written_say_so(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    report = sample_report(5, 6)
    with pytest.raises(OutputError, match="report"):
        write_report_json(report, blocked / "report.json")
    with pytest.raises(OutputError, match="report"):
        write_report_html(report, blocked / "report.html", picture=PICTURE)


@pytest.mark.parametrize("count", [1, 3, 13, 40])
def test_the_names_of_curves_lie_apart_and_within_their_plot(count):
    curves = {f"a structure with number {index}": ((index, 2, 3), [1, 2]) for index in range(count)}
    drawn = draw_curves([0.0, 1.0], curves, x_title="slice", y_title="area in cm²")
    svg = ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    width, height = (float(value) for value in svg.get("viewBox").split()[2:])
    texts = {text.text: text for text in svg.iter(f"{space}text")}
    boxes = [
        (float(text.get("x")) - 14, float(text.get("y")),
         float(text.get("x")) + measure(text.text), text.text)
        for text in (texts[name] for name in curves)
    ]  # fmt: skip
    boxes.append((6.0, 14.0, 6 + measure("area in cm²"), "title"))
    for left, _, right, name in boxes:
        assert left >= 0, name
        assert right <= width, name
    for (left, y, right, name), (left2, y2, right2, other) in combinations(boxes, 2):
        assert abs(y - y2) >= 11 or right <= left2 or right2 <= left, (name, other)
    # The plot begins below its names.
    lines = svg.findall(f"{space}polyline")
    tops = [float(point.split(",")[1]) for line in lines for point in line.get("points").split()]
    assert min(tops) > max(y for _, y, _, _ in boxes)
    assert max(tops) < height


def scan_report(*areas, whole=False):
    stages = {stage: np.full(1 if whole else len(areas), 1631.0) for stage in STAGES}
    sequence = ImageSequence(
        (len(areas), 1, 12, 12), decode=None, spacing_mm=(1.0, 1.0), slice_spacing_mm=3.0
    )
    return make_report(
        LabelMap(make_areas(*areas), (1.0, 1.0)),
        makers.LABELS,
        region=REGION,
        sequence=sequence,
        stage_ms=stages,
        warnings=("one.", "two."),
        facts=make_facts(),
    )


@pytest.mark.parametrize(
    ("report", "latency_of", "said"),
    [
        (scan_report(5, 6, 7, whole=True), "scan", "Milliseconds for the whole scan"),
        (scan_report(5, 6, 7), "slice", "Milliseconds a slice"),
        (sample_report(5, 6), "frame", "Milliseconds a frame"),
        (sample_report(5), "image", "Milliseconds for the whole image"),
    ],
)
def test_times_say_what_they_are_the_times_of(report, latency_of, said):
    _, text = read_page(report)
    assert report.latency_of == latency_of
    assert said in text
    assert report_mapping(report)["latency_of"] == latency_of
    lines = " ".join(summary(report))
    assert f"the {latency_of} in" in lines or f"a {latency_of} in" in lines


@pytest.mark.parametrize("whole", [True, False])
def test_slices_are_not_called_frames(whole):
    report = scan_report(5, 0, 7, whole=whole)
    _, text = read_page(report)
    assert "frame" not in text
    assert "frame" not in " ".join(summary(report))
    assert "3 slices" in text


def test_the_page_is_for_small_screens_too():
    page = to_html(scan_report(5, 6, 7), picture=PICTURE)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    # All that may be wider than a phone scrolls by itself.
    for wide in ("<img", "<svg", "<table><tr><th"):
        for before in page.split(wide)[:-1]:
            assert re.search(r'<div class="scroll">(<div class="wide">)?$', before), wide
    assert "prefers-color-scheme: dark" in page


def test_pictures_are_described_and_the_notice_stands_at_the_top():
    page = to_html(sample_report(5, 6), picture=PICTURE)
    assert 'alt="Outlines of LV cavity, LV myocardium, Left atrium on frames of' in page
    assert re.search(r'<svg[^>]* role="img" aria-label="area in px by time in ms: LV cavity', page)
    assert page.index(DISCLAIMER) < page.index("<img")


def test_warnings_that_differ_in_numbers_are_one_line():
    warnings = [(f"case-{number}", f"{number} px lost.") for number in range(100)]
    warnings += [("a", "dark."), ("b", "dark."), ("b", "no scale.")]
    assert group_warnings(warnings) == [
        "Warning: 100 images, such as case-0: 0 px lost.",
        "Warning: 2 images: dark.",
        "Warning: b: no scale.",
    ]
