"""Gates: fitted to made-up fans, which are told from pictures of other kinds."""

import dataclasses

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from bedside.bundle import read_bundle, write_with_card, write_with_gate
from bedside.cli.main import main
from bedside.datasets import list_cases
from bedside.errors import BundleError, DataError, ModalityError, SpecError
from bedside.evaluation.gate_contrast import (
    describe_others,
    fit_contrast,
    is_fitted_to,
    list_pictures,
)
from bedside.evaluation.gate_images import Described, describe_images, to_picture
from bedside.evaluation.gating import (
    check_made_for,
    find_sides,
    fit_gate,
    fit_view,
    measure_cases,
)
from bedside.pipeline.gate import (
    VIEW_NAMES,
    GateJudge,
    GateVerdict,
    choose_frames,
    explain,
    measure_contrast,
    median_verdict,
    score_contrast,
)
from bedside.segment import Segmenter, load, open_segmenter
from bedside.spec import (
    CropCentre,
    Fit,
    Grey,
    ScalePercentile,
    ScaleRange,
    from_mapping,
    to_mapping,
)
from bedside.spec.gate import VERSION, Gate, GateContrast, GateView
from bedside.volume import ImageSequence
from layout_makers import write_png
from models_for_tests import make_bundle, make_spec
from runs_for_tests import make_camus
from threads_for_tests import SIZES, make_deployment
from volume_makers import make_scan


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """24 patients with two fans each."""
    return list_cases(make_camus(tmp_path_factory.mktemp("fans"), patients=24))


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """A network with fresh weights, and steps for fans."""
    bundle = make_bundle(tmp_path_factory.mktemp("bundle"))
    spec = dataclasses.replace(make_spec(), preprocess=(Grey(), Fit(), ScalePercentile()))
    session = open_segmenter(bundle, backend="openvino", precision="f32").session
    with session:
        yield Segmenter(spec, session)


@pytest.fixture(scope="module")
def gate(segmenter, cases):
    return fit_gate(segmenter, cases[:40], cases[40:])


def noise(seed: int = 0) -> ImageSequence:
    """A picture of white noise over the whole frame."""
    picture = np.random.default_rng(seed).integers(0, 256, (60, 60), dtype=np.uint8)
    return ImageSequence.from_array(picture)


def with_gate(segmenter, gate, policy):
    return Segmenter(segmenter.spec, segmenter.session, gate=gate, policy=policy)


def test_held_out_images_are_accepted_and_their_number_is_known(gate):
    assert (gate.images, gate.checked) == (40, 8)
    assert gate.accepted >= 7


def test_a_foreign_image_is_refused_or_warned_of_with_a_reason(segmenter, gate):
    with pytest.raises(ModalityError, match=r"looks unlike .* times as far from the 40 training"):
        with_gate(segmenter, gate, "refuse").segment_sequence(noise())
    found = with_gate(segmenter, gate, "warn").segment_sequence(noise())
    assert found.gate.distance > gate.threshold
    assert "do not rely on its labels" in found.warnings[0]
    forced = with_gate(segmenter, gate, "refuse").segment_sequence(noise(), force=True)
    assert forced.warnings[0] == found.warnings[0]


def test_labels_do_not_depend_on_the_gate(segmenter, gate):
    off = with_gate(segmenter, gate, "off").segment_sequence(noise())
    warned = with_gate(segmenter, gate, "warn").segment_sequence(noise())
    assert off.gate is None
    assert not [text for text in off.warnings if "looks unlike" in text]
    np.testing.assert_array_equal(off.labels.array, warned.labels.array)


def test_a_film_is_judged_by_the_median_of_its_frames(segmenter, gate, cases):
    fan = np.array(segmenter_frames(cases[45]))
    other = np.ascontiguousarray(fan[::-1])
    mostly_fans = ImageSequence.from_array(np.stack([fan, other, fan]), third_axis="time")
    mostly_turned = ImageSequence.from_array(np.stack([fan, other, other]), third_axis="time")
    judged = with_gate(segmenter, gate, "warn")
    assert judged.segment_sequence(mostly_fans).gate.distance <= gate.threshold
    assert judged.segment_sequence(mostly_turned).gate.distance > gate.threshold


def segmenter_frames(case):
    from bedside.datasets.case import open_image

    return open_image(case).sequence.decode(0)[0]


def test_few_frames_of_a_long_film_are_judged():
    assert choose_frames(1000)[0] > 0
    assert len(choose_frames(1000)) == 7
    verdicts = [GateVerdict(each, "texture") for each in (3.0, 1.0, 2.0, 9.0)]
    assert median_verdict(verdicts).distance == 2.0
    assert median_verdict([]) is None


def test_a_view_measures_along_its_axes_and_beside_them():
    vectors = np.random.default_rng(0).normal(size=(400, 12)) * [9, 5, *([1] * 10)]
    view = fit_view("texture", vectors, np.arange(400) % 5)
    assert len(view.axes) == 8
    # Held out: a hundredth lies beyond 1 by one of both.
    assert 0.5 < view.far_along < 6
    assert 0.5 < view.far_beside < 8


def test_a_gate_is_read_as_it_was_written(gate, tmp_path):
    assert from_mapping(Gate, to_mapping(gate)) == gate
    bundle = make_bundle(tmp_path)
    assert bundle.gate is None
    write_with_gate(bundle.path, bundle, gate)
    found = read_bundle(bundle.path)
    assert found.gate == gate
    write_with_card(bundle.path, found, found.card)
    assert read_bundle(bundle.path).gate == gate


def test_numbers_that_do_not_fit_are_refused(gate, tmp_path):
    view = gate.views[0]
    for changes in ({"mean": view.mean[1:]}, {"residual": 0.0}, {"spread": view.spread[1:]}):
        with pytest.raises(SpecError, match="the gate's view"):
            dataclasses.replace(view, **changes)
    with pytest.raises(SpecError, match="threshold above 0"):
        Gate(gate.views, 0.0, images=40)
    assert isinstance(view, GateView)


def test_a_damaged_gate_is_refused_with_its_bundle(gate, tmp_path):
    bundle = make_bundle(tmp_path)
    broken = dataclasses.replace(gate, images="many")
    with pytest.raises(BundleError, match=r"gate\.json"):
        write_with_gate(bundle.path, bundle, broken)


def test_too_few_images_make_no_gate(segmenter, cases):
    with pytest.raises(DataError, match="needs at least 40"):
        fit_gate(segmenter, cases[:6], cases[6:8])


def test_what_cannot_be_read_is_infinitely_far(segmenter, gate, cases, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    broken = dataclasses.replace(cases[0], images=(tmp_path / "broken.png",))
    assert measure_cases(segmenter, gate, [broken]) == [float("inf")]


def test_a_contrast_refuses_what_lies_within_reach_of_the_training_images():
    random = np.random.default_rng(3)
    folds = np.arange(300) % 5
    own = [{"texture": row, "grain": row[:4]} for row in random.normal(size=(300, 12))]
    views = [
        fit_view(name, np.stack([each[name] for each in own]), folds)
        for name in ("texture", "grain")
    ]
    kinds = {
        name: [{"texture": row, "grain": row[:4]} for row in random.normal(size=(40, 12)) + move]
        for name, move in (("near", [3.0] + 11 * [0.0]), ("far", [2.5, 2.5] + 10 * [0.0]))
    }
    contrast = fit_contrast(views, own, folds, kinds)
    assert (contrast.images, contrast.kinds) == (80, ("near", "far"))
    assert [len(row) for row in contrast.weights] == [12, 4]
    gate = Gate(tuple(views), 1.1, images=300, contrast=contrast)
    judged = dict.fromkeys(("own", "near"), 0)
    others = {"own": [0.0] * 12, "near": [5.0] + 11 * [0.0]}
    for name, move in others.items():
        for row in random.normal(size=(100, 12)) + move:
            scaled = [
                (vector - np.array(view.mean)) / np.array(view.scale)
                for view, vector in zip(views, (row, row[:4]), strict=True)
            ]
            score = score_contrast(np.concatenate(scaled), np.concatenate(contrast.weights))
            judged[name] += measure_contrast(contrast, score) > gate.threshold
    assert judged["own"] <= 4
    assert judged["near"] >= 90
    assert fit_contrast(views, own, folds, {"none": []}) is None


def test_a_contrast_of_other_sizes_than_its_gate_is_refused(gate):
    rows = tuple((0.0,) * len(view.mean) for view in gate.views)
    contrast = GateContrast(rows, bias=0.0, far=0.0, spread=1.0, images=1)
    assert dataclasses.replace(gate, contrast=contrast).contrast == contrast
    assert from_mapping(Gate, to_mapping(dataclasses.replace(gate, contrast=contrast))) is not None
    with pytest.raises(SpecError, match="other views or numbers"):
        dataclasses.replace(gate, contrast=dataclasses.replace(contrast, weights=rows[1:]))
    with pytest.raises(SpecError, match="out of range"):
        dataclasses.replace(contrast, spread=0.0)


def view_of_anything(gate):
    """The gate with views in which everything is near."""
    views = [dataclasses.replace(view, far_along=1e9, far_beside=1e9) for view in gate.views]
    return dataclasses.replace(gate, views=tuple(views))


def test_the_reason_names_the_images_of_other_kinds(gate):
    rows = tuple((0.0,) * len(view.mean) for view in gate.views)
    contrast = GateContrast(rows, bias=9.0, far=0.0, spread=1.0, images=77)
    near = dataclasses.replace(view_of_anything(gate), contrast=contrast)
    image, logits = np.zeros((1, 64, 64), np.float32), np.zeros((3, 32, 32), np.float32)
    verdict = GateJudge(near).judge(image, logits)
    assert verdict == GateVerdict(10.0, "contrast")
    text = explain(near, verdict, made_for="a fan")
    assert "closer to 77 images of other kinds than 99 % of the 40 training images" in text


def test_pictures_of_other_kinds_are_8_bits_and_grey_if_asked():
    frame = np.linspace(-1000, 1000, 12).reshape(1, 3, 4)
    assert to_picture(frame).dtype == np.uint8
    assert (to_picture(frame).min(), to_picture(frame).max()) == (0, 255)
    colour = np.zeros((3, 2, 2), np.uint8)
    colour[0] = 255
    assert to_picture(colour).shape == (2, 2, 3)
    assert (to_picture(colour, grey=True) == 76).all()


def test_threads_share_a_judge(gate):
    tensor = np.random.default_rng(0).random((1, 64, 64), dtype=np.float32)
    logits = np.random.default_rng(1).normal(size=(3, 32, 32)).astype(np.float32)
    judge = GateJudge(gate)
    assert judge.judge(tensor, logits) == judge.judge(tensor.copy(), logits.copy())


def test_the_command_fits_checks_and_counts(cases, tmp_path, capsys):
    bundle = make_bundle(tmp_path, untrained=False)
    people = sorted({case.patient_id for case in cases})
    split = {"train": people[:20], "val": people[20:22], "test": people[22:]}
    from bedside.bundle import write_bundle

    graphs = {"f32": bundle.read_graph("f32")}
    spec = dataclasses.replace(bundle.spec, preprocess=(Grey(), Fit(), ScalePercentile()))
    write_bundle(bundle.path, spec=spec, card=bundle.card, graphs=graphs,
                 split={part: tuple(ids) for part, ids in split.items()})  # fmt: skip
    data = str(cases[0].images[0].parents[1])
    command = ["gate", str(bundle.path), data, "-o", str(tmp_path / "new.bedside")]
    other = make_camus(tmp_path / "other", patients=26)  # of whom 24 are its own
    assert main([*command, "--foreign", str(other)]) == 0
    out = capsys.readouterr().out
    assert "Gate of 40 training images" in out
    assert "of 4 validation cases" in out
    assert f"of 4 cases of {other}" in out
    model = load(tmp_path / "new.bedside", precision="f32", gate="refuse")
    with pytest.raises(ModalityError, match="Pass --gate warn"):
        model.segment(np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8))


def test_a_scan_is_judged_by_slices_of_its_windows():
    segmenter = Segmenter(make_deployment(3, (ScaleRange(source="nominal"),)), Tones())
    random = np.random.default_rng(5)
    depth, *plane = SIZES[3]
    scans = [
        make_scan(ndimage.gaussian_filter(random.random((depth, *plane)), 3).astype(np.float32))
        for _ in range(24)
    ]
    described = [each.views for scan in scans for each in describe_images(segmenter, scan)]
    assert len(described) == 24 * 3
    views = [
        fit_view(name, np.stack([each[name] for each in described]), np.arange(72) // 3 % 5)
        for name in VIEW_NAMES
    ]
    gate = Gate(tuple(views), 1.75, images=72, version=VERSION)
    judged = with_gate(segmenter, gate, "refuse")
    assert judged.segment_sequence(scans[0], force=True).gate.distance < 1.75
    two = np.concatenate([np.stack(list(scan))[:, 0] for scan in scans[:2]])
    assert len(describe_images(segmenter, make_scan(two))) > 3
    with pytest.raises(ModalityError, match="looks unlike"):
        judged.segment_sequence(make_scan(random.random((depth, *plane), dtype=np.float32)))


class Tones:
    """A network whose four classes are ranges of brightness."""

    backend, precision, threads = "test", "f32", 1

    def predict(self, tensor, out=None):
        tones = np.linspace(0.2, 0.8, 4).reshape(-1, *[1] * (tensor.ndim - 2))
        logits = (-50 * (tensor - tones) ** 2).astype(np.float32)
        if out is None:
            return logits
        out[:] = logits
        return out


def test_the_command_fits_against_half_of_the_patients_of_other_data(cases, tmp_path, capsys):
    bundle = make_bundle(tmp_path, untrained=False)
    people = sorted({case.patient_id for case in cases})
    from bedside.bundle import write_bundle

    graphs = {"f32": bundle.read_graph("f32")}
    spec = dataclasses.replace(bundle.spec, preprocess=(Grey(), Fit(), ScalePercentile()))
    split = {"train": tuple(people[:20]), "val": tuple(people[20:22]), "test": tuple(people[22:])}
    write_bundle(bundle.path, spec=spec, card=bundle.card, graphs=graphs, split=split)
    other = make_camus(tmp_path / "other", patients=8)
    for index, path in enumerate(sorted(other.rglob("*_E?.nii.gz"))):
        noise = np.random.default_rng(index).integers(0, 256, (40, 60, 1)).astype(np.uint8)
        nib.save(nib.Nifti1Image(noise, np.eye(4)), path)
    data = str(cases[0].images[0].parents[1])
    output = tmp_path / "new.bedside"
    assert main(["gate", str(bundle.path), data, "-o", str(output), "--contrast", str(other)]) == 0
    left = [case for case in list_cases(other) if not is_fitted_to(case)]
    assert 0 < len(left) < 16
    assert f"refused: {len(left)} of {len(left)} cases of {other}" in capsys.readouterr().out
    contrast = read_bundle(output).gate.contrast
    assert (contrast.kinds, contrast.images) == (("other",), 16 - len(left))


def test_data_of_another_kind_are_not_evaluated(segmenter, gate, cases, tmp_path):
    judged = with_gate(segmenter, gate, "warn")
    check_made_for(judged, cases)
    for case in cases[:20]:
        path = tmp_path / f"{case.case_id}.png"
        write_png(path, np.random.default_rng(7).integers(0, 256, (48, 64), dtype=np.uint8))
    noisy = [
        dataclasses.replace(case, images=(tmp_path / f"{case.case_id}.png",)) for case in cases[:20]
    ]
    with pytest.raises(DataError, match=r"10 of 10 images .* pass --gate warn"):
        check_made_for(judged, noisy)
    check_made_for(judged, [*noisy[:10], *cases[20:40]])
    check_made_for(with_gate(segmenter, gate, "off"), noisy)


def test_a_frame_of_another_size_is_foreign_where_pixels_are_taken_as_they_are(gate):
    sided = dataclasses.replace(view_of_anything(gate), contrast=None, frame_px=(120, 128))
    judge, logits = GateJudge(sided), np.zeros((3, 32, 32), np.float32)
    image = np.zeros((1, 64, 64), np.float32)
    for frame_px in ((120, 128), (192, 192), (80, 100), None):
        verdict = judge.judge(image, logits, frame_px=frame_px)
        assert verdict.distance <= sided.threshold + 1e-9, frame_px
    for frame_px in ((128, 200), (512, 512), (78, 128)):
        verdict = judge.judge(image, logits, frame_px=frame_px)
        assert verdict.distance > sided.threshold
        assert "1.5 times off the 120 to 128 pixels" in explain(sided, verdict, made_for="a fan")


def test_sides_of_frames_count_where_a_number_of_pixels_is_cut(segmenter, cases):
    images = [Described({}, (60, 80)), Described({}, (64, 70))]
    assert find_sides(segmenter, images) is None
    steps = (Grey(), CropCentre(size_px=(32, 32)), Fit(), ScalePercentile())
    cut = Segmenter(dataclasses.replace(segmenter.spec, preprocess=steps), segmenter.session)
    assert find_sides(cut, images) == (60, 80)


def test_small_frames_are_contrasted_with_pictures_of_their_own_size_too(segmenter, cases):
    whole, both = (
        describe_others(segmenter, {"other": cases[:12]}, sides) for sides in (None, (24, 40))
    )
    assert list(both) == ["other", "other, 40 x 40 pixels"]
    small = both["other, 40 x 40 pixels"]
    assert len(small) == len(both["other"]) == len(whole["other"]) > 0
    assert not np.array_equal(small[0]["grain"], both["other"][0]["grain"])
    pictures = list_pictures(cases[0], segmenter, side_px=40)
    assert {picture.shape[2:] for picture in pictures} == {(40, 40)}


def test_a_gate_of_another_version_is_told_and_judges_nothing(segmenter, gate):
    old = dataclasses.replace(gate, version=1)
    found = with_gate(segmenter, old, "warn").segment_sequence(noise())
    assert found.gate is None
    assert "fitted by another version" in found.warnings[0]
    with pytest.raises(BundleError, match="Fit it anew: bedside gate"):
        with_gate(segmenter, old, "refuse")
    assert not with_gate(segmenter, old, "off").warnings
