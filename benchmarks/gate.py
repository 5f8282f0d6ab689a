"""How many foreign images the gates of bundles refuse, how many of their own they accept, the cost.

Own images are those of the bundle's test patients. Foreign ones are other data sets, the own images
turned, mirrored and inverted, and made ones: noise, gradients, pages of text. No gate was fitted to
any of them. Run as `python benchmarks/gate.py BUNDLE=DATASET ... --data FOLDER`.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from bedside.bundle import Bundle, find_bundle, read_bundle
from bedside.datasets import Case, list_cases
from bedside.datasets.case import open_image
from bedside.errors import InputError
from bedside.evaluation.certification import list_part
from bedside.evaluation.gating import pass_images
from bedside.evaluation.report import markdown_table
from bedside.pipeline.gate import GateJudge, median_verdict
from bedside.pipeline.segmenter import Segmenter
from bedside.runtime.machine import describe_processor, read_load
from bedside.segment import open_segmenter
from bedside.system.atomic import write_text
from bedside.volume import ImageSequence

OTHERS = ("camus", "hc18", "acdc", "lidc_nodules", "Task04_Hippocampus", "btcv", "vocalfolds")
TURNED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "own, upside down": lambda image: image[::-1],
    "own, turned by 90 degrees": lambda image: np.rot90(image),
    "own, inverted": lambda image: image.max() - image,
    "own, mirrored": lambda image: image[:, ::-1],
}
UNCOUNTED = ("own, upside down", "own, turned by 90 degrees", "own, mirrored")
"""Listed, and not among the foreign ones: hearts in MR and heads may well lie so."""

Images = Iterator[np.ndarray]


def list_other(folder: Path, count: int, random: np.random.Generator) -> Images:
    """Middle frames of cases drawn from a data set, as 8-bit pictures."""
    cases = list_cases(folder)
    for index in random.permutation(len(cases))[:count]:
        sequence = open_image(cases[index]).sequence
        for frame in np.unique([len(sequence) // 3, len(sequence) // 2]):
            yield to_picture(sequence.decode(int(frame)))


def to_picture(frame: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8, stretched if it is anything else."""
    image = frame.transpose(1, 2, 0) if len(frame) == 3 else frame[0]
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    low, high = np.percentile(image, (0.5, 99.5))
    return (255 * np.clip((image - low) / max(high - low, 1e-9), 0, 1)).astype(np.uint8)


def make_noise(random: np.random.Generator, count: int) -> Images:
    """White noise, and smooth noise."""
    for index in range(count):
        shape = tuple(random.integers(200, 600, 2).tolist())
        noise = random.random(shape, dtype=np.float32)
        if index % 2:
            noise = cv2.GaussianBlur(noise, (0, 0), float(random.uniform(2, 25)))
        yield cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def make_gradient(random: np.random.Generator, count: int) -> Images:
    """Ramps of grey, in any direction."""
    for _ in range(count):
        height, width = random.integers(200, 600, 2).tolist()
        rows, columns = np.mgrid[:height, :width]
        angle = random.uniform(0, 2 * np.pi)
        ramp = np.cos(angle) * rows + np.sin(angle) * columns
        yield cv2.normalize(ramp, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def make_text(random: np.random.Generator, count: int) -> Images:
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


def measure_image(segmenter: Segmenter, bundle: Bundle, image: np.ndarray) -> float:
    """Distance of one picture; infinite if the pipeline refuses it."""
    if bundle.spec.input.channels == 1 and image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    try:
        passed = pass_images(segmenter, ImageSequence.from_array(np.ascontiguousarray(image)))
    except InputError:
        return float("inf")
    assert bundle.gate is not None
    verdict = median_verdict([GateJudge(bundle.gate).judge(*each) for each in passed])
    return float("inf") if verdict is None else verdict.distance


def measure_bundle(
    bundle: Bundle, own: str, data: Path, *, count: int, seed: int = 0
) -> dict[str, list[float]]:
    """Distances of own test cases and of every kind of foreign image."""
    assert bundle.gate is not None
    segmenter = open_segmenter(bundle, backend="openvino", precision="f32", gate="off")
    random = np.random.default_rng(seed)
    cases = list_part(bundle, data / own, "test")
    found: dict[str, list[float]] = {"own, test cases": []}
    for case in cases:
        passed = pass_images(segmenter, open_image(case).sequence)
        verdict = median_verdict([GateJudge(bundle.gate).judge(*each) for each in passed])
        assert verdict is not None
        found["own, test cases"].append(verdict.distance)
    kinds: dict[str, Images] = {
        name: list_other(data / name, count, random) for name in OTHERS if name != own
    }
    kinds |= {
        "noise": make_noise(random, count),
        "gradients": make_gradient(random, count),
        "pages of text": make_text(random, count),
    }
    chosen = [cases[index] for index in random.permutation(len(cases))[:count]]
    kinds |= {name: turn_own(chosen, turn) for name, turn in TURNED.items()}
    for name, images in kinds.items():
        found[name] = [measure_image(segmenter, bundle, image) for image in images]
    return found


def time_gate(bundle: Bundle, own: str, data: Path, *, runs: int = 200) -> tuple[float, float]:
    """Median ms of the network in its fastest precision, and of the gate, in turns, one thread."""
    assert bundle.gate is not None
    case = list_part(bundle, data / own, "test")[0]
    judge = GateJudge(bundle.gate)
    cv2.setNumThreads(1)
    with open_segmenter(bundle, precision="default", threads=1, gate="off").session as session:
        segmenter = Segmenter(bundle.spec, session)
        tensor, logits = pass_images(segmenter, open_image(case).sequence)[0]
        spans = []
        for _ in range(runs):
            moments = [time.perf_counter()]
            session.predict(tensor[None])
            moments.append(time.perf_counter())
            judge.judge(tensor, logits)
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
    foreign = [
        value
        for name, values in found.items()
        if name not in ("own, test cases", *UNCOUNTED)
        for value in values
    ]
    refused = sum(value > threshold for value in foreign)
    own = found["own, test cases"]
    accepted = sum(value <= threshold for value in own)
    rows = [
        [
            name,
            str(len(values)),
            f"{100 * np.mean([value > threshold for value in values]):.1f}",
            f"{np.quantile(values, 0.05):.2f}",
            f"{np.median(values):.2f}",
        ]
        for name, values in found.items()
    ]
    return [
        f"## {bundle.spec.name}",
        "",
        f"Fitted on {bundle.gate.images} training images; "
        f"{bundle.gate.checked} validation cases set the threshold. Of the test cases {accepted} "
        f"of {len(own)} ({100 * accepted / len(own):.1f} %) are accepted, of the foreign images "
        f"{refused} of {len(foreign)} ({100 * refused / len(foreign):.1f} %) are refused, beyond a "
        f"distance of {threshold:g}. Network {times[0]:.2f} ms, gate {times[1]:.2f} ms "
        f"({100 * times[1] / times[0]:.0f} %), one thread, lower quartiles of calls in turns.",
        "",
        *markdown_table(["images", "number", "refused %", "nearest 5 %", "median"], rows),
        "",
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", help="BUNDLE=DATASET, such as camus-4ch=camus")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--count", type=int, default=80, help="images of a kind")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    load = read_load()
    lines = []
    for pair in arguments.bundles:
        name, _, own = pair.partition("=")
        bundle = read_bundle(find_bundle(name))
        found = measure_bundle(bundle, own, arguments.data, count=arguments.count)
        lines += format_bundle(bundle, found, time_gate(bundle, own, arguments.data))
    head = [
        "# Are foreign images noticed?",
        "",
        "The gates of bundles on their own test cases and on images of other kinds, none of which "
        "a gate was fitted to. A distance of 1 is what 99 % of the training images stay within. "
        "Own images that are turned or mirrored are listed, and not counted as foreign. Written by "
        "`benchmarks/gate.py`.",
        "",
        f"- Processor: {describe_processor()}",
        f"- Load of the machine before and after, 1 minute: {load:.1f}, {read_load():.1f}",
        "",
    ]
    text = "\n".join([*head, *lines])
    print(text)
    write_text(arguments.output, text)


if __name__ == "__main__":
    main()
