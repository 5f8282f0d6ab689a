"""How many foreign images the gates of bundles refuse, how many of their own they accept, the cost.

Own images are those of the bundle's test patients. Foreign ones are other data sets, patients that
no gate was fitted to; kinds that no gate was fitted to: made noise, gradients, pages of text,
inverted own images, and folders of pictures (`--pictures`). Turned and mirrored own images are
listed beside.
Run as `python benchmarks/gate.py BUNDLE=DATASET ... --data FOLDER --pictures FOLDER ...`.
"""

import argparse
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from bedside.bundle import Bundle, find_bundle, read_bundle
from bedside.datasets import Case, list_cases
from bedside.datasets.case import open_image
from bedside.errors import InputError
from bedside.evaluation.gate_contrast import is_fitted_to
from bedside.evaluation.gate_images import Described, describe_images, to_picture
from bedside.evaluation.looks import find_ledger, record_look
from bedside.evaluation.parts import list_part
from bedside.evaluation.report import markdown_table
from bedside.pipeline.gate import GateJudge, median_verdict
from bedside.pipeline.gate_views import VIEW_NAMES
from bedside.pipeline.segmenter import Segmenter
from bedside.runtime.machine import describe_processor, read_load
from bedside.segment import open_segmenter
from bedside.system.atomic import write_text
from bedside.volume import ImageSequence
from feature_cache import hash_inputs, remember

OTHERS = ("camus", "hc18", "acdc", "lidc_nodules", "Task04_Hippocampus", "btcv", "vocalfolds")
TURNED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "own, upside down": lambda image: image[::-1],
    "own, turned by 90 degrees": lambda image: np.rot90(image),
    "own, inverted": lambda image: image.max() - image,
    "own, mirrored": lambda image: image[:, ::-1],
}
UNCOUNTED = (
    "own, upside down", "own, turned by 90 degrees", "own, axes exchanged", "own, mirrored",
)  # fmt: skip
"""Listed, and not among the foreign ones: hearts in MR and heads may well lie so."""

SCANS = ("acdc", "lidc_nodules", "Task04_Hippocampus", "btcv")
"""Data sets of which scans are taken for networks of whole scans."""

NOTES = Path(__file__).parent / "results" / "gate_notes.md"
"""What follows the tables."""

Images = Iterator[np.ndarray]
Made = TypeVar("Made", Iterator[np.ndarray], Iterator[ImageSequence])
Maker = Callable[[], Iterable[np.ndarray] | Iterable[ImageSequence]]


def list_other(cases: Sequence[Case], count: int, *, random: np.random.Generator) -> Images:
    """Middle frames of cases drawn from a data set, as 8-bit pictures."""
    left = [case for case in cases if not is_fitted_to(case)]
    for index in random.permutation(len(left))[:count]:
        sequence = open_image(left[index]).sequence
        for frame in np.unique([len(sequence) // 3, len(sequence) // 2]):
            yield to_picture(sequence.decode(int(frame)))


def list_pictures(folder: Path, count: int) -> Images:
    """Pictures of a folder, in colour."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    for index in start(folder.name).permutation(len(paths))[:count]:
        found = cv2.imread(str(paths[index]), cv2.IMREAD_COLOR)
        if found is not None:
            yield cv2.cvtColor(found, cv2.COLOR_BGR2RGB)


def list_scans(
    cases: Sequence[Case], own: ImageSequence, count: int, *, random: np.random.Generator
) -> Iterator[ImageSequence]:
    """Middles of scans of another data set, as large as an own scan and on its grid."""
    left = [case for case in cases if not is_fitted_to(case)]
    for index in random.permutation(len(left))[:count]:
        sequence = open_image(left[index]).sequence
        planes = [to_picture(sequence.decode(k), grey=True) for k in range(len(sequence))]
        yield on_grid(np.stack(planes), own)


def on_grid(volume: np.ndarray, own: ImageSequence) -> ImageSequence:
    """The middle of a volume on the grid of an own scan, repeated where it is smaller."""
    shape = (own.shape[0], *own.shape[2:])
    for axis, size in enumerate(shape):
        begin = max(0, (volume.shape[axis] - size) // 2)
        volume = np.take(volume, np.arange(begin, begin + size), axis=axis, mode="wrap")
    return replace(own, decode=volume[:, None].astype(np.float32).__getitem__)


def change_scans(
    cases: Sequence[Case], change: Callable[[np.ndarray], np.ndarray]
) -> Iterator[ImageSequence]:
    """Own scans of which the voxels are changed and the grid stays."""
    for case in cases:
        own = open_image(case).sequence
        yield on_grid(change(np.stack([own.decode(k)[0] for k in range(len(own))])), own)


def make_noise(count: int, *, random: np.random.Generator) -> Images:
    """White noise, and smooth noise."""
    for index in range(count):
        shape = tuple(random.integers(200, 600, 2).tolist())
        noise = random.random(shape, dtype=np.float32)
        if index % 2:
            noise = cv2.GaussianBlur(noise, (0, 0), float(random.uniform(2, 25)))
        yield cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def make_gradient(count: int, *, random: np.random.Generator) -> Images:
    """Ramps of grey, in any direction."""
    for _ in range(count):
        height, width = random.integers(200, 600, 2).tolist()
        rows, columns = np.mgrid[:height, :width]
        angle = random.uniform(0, 2 * np.pi)
        ramp = np.cos(angle) * rows + np.sin(angle) * columns
        yield cv2.normalize(ramp, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def make_text(count: int, *, random: np.random.Generator) -> Images:
    """Pages and screens of text."""
    for _ in range(count):
        height, width = random.integers(200, 600, 2).tolist()
        paper = int(random.integers(0, 2)) * 255
        page = np.full((height, width), paper, np.uint8)
        for _ in range(int(random.integers(5, 40))):
            words = "".join(map(chr, random.integers(65, 122, int(random.integers(4, 20)))))
            place = (int(random.integers(0, width)), int(random.integers(0, height)))
            size = float(random.uniform(0.4, 1.5))
            cv2.putText(page, words, place, cv2.FONT_HERSHEY_SIMPLEX, size, 255 - paper, 1)
        yield page


def turn_own(cases: Sequence[Case], turn: Callable[[np.ndarray], np.ndarray]) -> Images:
    """Middle frames of own cases, turned."""
    for case in cases:
        sequence = open_image(case).sequence
        yield turn(to_picture(sequence.decode(len(sequence) // 2)))


def describe_kind(
    segmenter: Segmenter, images: Iterable[np.ndarray | ImageSequence]
) -> dict[str, np.ndarray]:
    """Descriptions of pictures or scans, as arrays; none of those that the pipeline refuses."""
    found, counts = list[Described](), []
    for image in images:
        if isinstance(image, np.ndarray):
            if segmenter.spec.input.channels == 1 and image.ndim == 3:
                image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            image = ImageSequence.from_array(np.ascontiguousarray(image))
        try:
            described = describe_images(segmenter, image)
        except InputError:
            described = []
        found += described
        counts.append(len(described))
    arrays = {name: np.array([each.views[name] for each in found]) for name in VIEW_NAMES}
    sides = np.array([each.frame_px or (0, 0) for each in found])
    return {**arrays, "frame_px": sides, "counts": np.array(counts, dtype=int)}


def measure_kind(judge: GateJudge, arrays: dict[str, np.ndarray]) -> list[float]:
    """Distance of each image; infinite if the pipeline refuses it."""
    distances, row = [], 0
    for count in arrays["counts"]:
        verdicts = []
        for index in range(row, row + count):
            sides = tuple(map(int, arrays["frame_px"][index]))
            views = {name: arrays[name][index] for name in VIEW_NAMES}
            verdicts.append(judge.judge_described(views, sides if all(sides) else None))
        row += count
        verdict = median_verdict(verdicts)
        distances.append(float("inf") if verdict is None else verdict.distance)
    return distances


def measure_bundle(
    bundle: Bundle, own: str, data: Path, *, count: int, pictures: Sequence[Path], cache: Path
) -> dict[str, list[float]]:
    """Distances of own test cases and of every kind of foreign image."""
    assert bundle.gate is not None
    judge, cases = GateJudge(bundle.gate), list_part(bundle, data / own, "test")
    others = {name: list_cases(data / name) for name in OTHERS if name != own}
    chosen = [cases[index] for index in start(own).permutation(len(cases))[:count]]
    kinds = list_kinds(bundle, chosen, others, count)
    makers: dict[str, tuple[Sequence[Case], Path | None, Maker]] = {
        "own, test cases": (cases, None, lambda: (open_image(each).sequence for each in cases)),
        **{name: (others.get(name, chosen), None, make) for name, make in kinds.items()},
    }
    if bundle.spec.model.spatial_dims == 2:
        for folder in pictures:
            makers[folder.name] = (), folder, partial(list_pictures, folder, count)
    found = {}
    for name, (used, folder, make) in makers.items():
        key = hash_inputs(bundle, used, also=[name, count], folder=folder)
        kept = partial(describe_with, bundle, make)
        safe = "".join(each if each.isalnum() else "_" for each in name)
        found[name] = measure_kind(
            judge, remember(cache, f"gate-{bundle.spec.name}-{safe}", key, kept)
        )
    return found


def describe_with(bundle: Bundle, make: "Maker") -> dict[str, np.ndarray]:
    """Descriptions of one kind by the network of a bundle."""
    segmenter = open_segmenter(bundle, backend="openvino", precision="f32", threads=1, gate="off")
    with segmenter.session:
        return describe_kind(segmenter, make())


def start(name: str) -> np.random.Generator:
    """Chance of one kind of images, the same in each run."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def begin(make: Callable[..., Made], name: str, *settings: Any) -> Made:
    """Images of one kind, by its own chance."""
    return make(*settings, random=start(name))


def list_kinds(
    bundle: Bundle, chosen: Sequence[Case], others: dict[str, list[Case]], count: int
) -> "dict[str, Maker]":
    """Every kind of image that needs no folder of pictures."""
    if bundle.spec.model.spatial_dims == 3:
        return _list_scans(chosen, others, count)
    kinds: dict[str, Maker] = {
        name: partial(begin, list_other, name, found, count) for name, found in others.items()
    }
    kinds |= {
        name: partial(begin, make, name, count)
        for name, make in (
            ("noise", make_noise), ("gradients", make_gradient), ("pages of text", make_text)
        )
    }  # fmt: skip
    if bundle.gate is not None and bundle.gate.frame_px is not None:
        side = bundle.gate.frame_px[1]
        kinds |= {
            f"{name}, {side} x {side} pixels": partial(resize_all, make, side)
            for name, make in kinds.items()
        }
    return kinds | {name: partial(turn_own, chosen, turn) for name, turn in TURNED.items()}


def resize_all(make: "Maker", side: int) -> Images:
    """Pictures shrunk or enlarged to the size of the frames of training images."""
    for picture in make():
        assert isinstance(picture, np.ndarray)
        yield cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def _list_scans(
    chosen: Sequence[Case], others: dict[str, list[Case]], count: int
) -> dict[str, Maker]:
    """Every kind of foreign scan."""
    own = open_image(chosen[0]).sequence
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "noise": lambda scan: start("noise").random(scan.shape),
        "smooth noise": lambda scan: gaussian_filter(start("smooth").random(scan.shape), 3),
        "gradients": lambda scan: np.indices(scan.shape).sum(axis=0),
        "own, inverted": lambda scan: scan.max() - scan,
        "own, upside down": lambda scan: scan[::-1],
        "own, axes exchanged": lambda scan: scan.transpose(1, 2, 0),
        "own, mirrored": lambda scan: scan[..., ::-1],
    }
    kinds: dict[str, Maker] = {
        name: partial(begin, list_scans, name, found, own, count)
        for name, found in others.items()
        if name in SCANS
    }
    return kinds | {name: partial(change_scans, chosen, change) for name, change in changes.items()}


def time_gate(bundle: Bundle, *, runs: int = 200) -> tuple[float, float]:
    """Median ms of the network in its fastest precision, and of the gate, in turns, one thread."""
    assert bundle.gate is not None
    judge = GateJudge(bundle.gate)
    cv2.setNumThreads(1)
    with open_segmenter(bundle, precision="default", threads=1, gate="off").session as session:
        taken = bundle.spec.input
        shape = (1, taken.channels, *taken.size_px)
        tensor = np.random.default_rng(0).random(shape, dtype=np.float32)
        logits = session.predict(tensor)[0].copy()
        spans = []
        for _ in range(runs):
            moments = [time.perf_counter()]
            session.predict(tensor)
            moments.append(time.perf_counter())
            if tensor.ndim == 5:
                judge.judge_window(tensor[0], logits)
            else:
                judge.judge(tensor[0], logits)
            moments.append(time.perf_counter())
            spans.append(np.diff(moments))
    network_ms, gate_ms = 1e3 * np.quantile(spans, 0.25, axis=0)
    return float(network_ms), float(gate_ms)


def format_bundle(
    bundle: Bundle, found: dict[str, list[float]], times: tuple[float, float]
) -> list[str]:
    """Table and sentences of one bundle."""
    assert bundle.gate is not None
    threshold = bundle.gate.threshold
    names = [name for name in found if name not in ("own, test cases", *UNCOUNTED)]
    foreign = [value for name in names for value in found[name]]
    refused = sum(value > threshold for value in foreign)
    own = found["own, test cases"]
    accepted = sum(value <= threshold for value in own)
    fitted = () if bundle.gate.contrast is None else bundle.gate.contrast.kinds
    rows = [
        [
            f"{name} *" if name in fitted else name,
            str(len(values)),
            f"{100 * np.mean([value > threshold for value in values]):.1f}",
            *(f"{np.quantile(values, q, method='lower'):.2f}" for q in (0.05, 0.5)),
        ]
        for name, values in found.items()
    ]
    unseen = [value for name in names if name not in fitted for value in found[name]]
    unseen_refused = sum(value > threshold for value in unseen)
    return [
        f"## {bundle.spec.name}",
        "",
        f"Fitted on {bundle.gate.images} training images; "
        f"{bundle.gate.checked} validation cases set the threshold. Of the test cases {accepted} "
        f"of {len(own)} ({100 * accepted / len(own):.1f} %) are accepted, of the foreign images "
        f"{refused} of {len(foreign)} ({100 * refused / len(foreign):.1f} %) are refused, beyond a "
        f"distance of {threshold:g}; of the {len(unseen)} of kinds that it was not contrasted with "
        f"{100 * unseen_refused / max(1, len(unseen)):.1f} %. Network {times[0]:.2f} ms, gate "
        f"{times[1]:.2f} ms ({100 * times[1] / times[0]:.0f} %), one thread, lower quartiles of "
        "calls in turns.",
        "",
        *markdown_table(["images", "number", "refused %", "nearest 5 %", "median"], rows),
        "",
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", help="BUNDLE=DATASET, such as camus-4ch=camus")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="folders of pictures")
    parser.add_argument("--cache", type=Path, required=True, help="folder of kept descriptions")
    parser.add_argument("--count", type=int, default=80, help="images of a kind")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    load = read_load()
    lines = []
    for pair in arguments.bundles:
        name, _, own = pair.partition("=")
        bundle = read_bundle(find_bundle(name))
        found = measure_bundle(
            bundle, own, arguments.data, count=arguments.count, pictures=arguments.pictures,
            cache=arguments.cache,
        )  # fmt: skip
        record_look(
            find_ledger(arguments.output.parent), bundle, what="gate",
            cases=len(found["own, test cases"]), dice={},
        )  # fmt: skip
        lines += format_bundle(bundle, found, time_gate(bundle))
    head = [
        "# Are foreign images noticed?",
        "",
        "The gates of bundles on their own test cases and on images of other kinds. A distance of "
        "1 is what 99 % of the training images stay within. Gates were contrasted with the data "
        "sets marked by *, of which other patients are measured here, and with none of the other "
        "kinds. Own images that are turned or mirrored are listed, and not counted as foreign. "
        "Written by `benchmarks/gate.py`.",
        "",
        f"- Processor: {describe_processor()}",
        f"- Load of the machine before and after, 1 minute: {load:.1f}, {read_load():.1f}",
        "",
    ]
    text = "\n".join([*head, *lines, NOTES.read_text(encoding="utf-8")])
    print(text)
    write_text(arguments.output, text)


if __name__ == "__main__":
    main()
