"""INFERENCE in one screen: a bundle and an image in, labels on the grid of the image out.

`load` opens a bundle; `Model.segment` opens an image and returns a `Result`; `segment_file` writes
it too; `Model.stream` takes frames that keep coming (`stream/live.py`). A 2D network processes
frame by frame (`pipeline/frames/pipeline.py`): plan, then for each frame decode, preprocess,
predict, refine, restore, postprocess. A 3D network processes a scan as a whole
(`pipeline/volumes/pipeline.py`).
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from bedside.bundle import Bundle, find_bundle, read_bundle
from bedside.bundle.trust import choose_trusted_keys
from bedside.errors import InputError, MemoryLimitError, UsageError, printable
from bedside.io.channels import join_named
from bedside.io.image import Image, open_image
from bedside.io.laterality import check_sides
from bedside.io.opened import Source
from bedside.io.read_options import ReadOptions
from bedside.options import OutputOptions, RunOptions
from bedside.pipeline.protocol import STAGES, Segmentation
from bedside.pipeline.scaled_region import match_scale
from bedside.pipeline.segmenter import Segmenter, open_segmenter
from bedside.report.process_cost import peak_memory_mb, startup_ms
from bedside.report.record import BundleFacts, RunFacts
from bedside.report.results import SavedResult, choose_format, write_results
from bedside.result import Result
from bedside.runtime.machine import package_version
from bedside.runtime.table import find_backend
from bedside.spec.gate import GatePolicy
from bedside.stream.event import Event
from bedside.stream.live import LiveStream
from bedside.system.process_memory import trim_heap
from bedside.volume import ImageSequence, Space

__all__ = [
    "STAGES", "Model", "Result", "SavedResult", "Segmentation", "Segmenter", "load",
    "open_segmenter", "segment_file",
]  # fmt: skip


def load(
    name_or_path: str | Path,
    *,
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    gate: GatePolicy = "warn",
    require_signed: bool = False,
    trusted_keys: Path | str | None = None,
) -> "Model":
    """Return a model that is ready to segment, loaded from a bundle.

    Args:
        name_or_path: Name of a shipped bundle, such as "camus-4ch", or path of a `.bedside` file.
        backend: Name of a runtime, or "auto".
        precision: "f32", "bf16", "int8", "auto" for the fastest certified one on this machine, or
            "default" to choose without timing.
        threads: Threads of the runtime; None for every core this process may use.
        gate: What happens to images that look unlike those the network was trained on: "refuse",
            "warn" or "off".
        require_signed: Refuse a bundle that no trusted key has signed.
        trusted_keys: Folder of public keys, one of which must have signed the bundle.

    Raises:
        BundleError: If there is no such bundle, or it is damaged.
        SignatureError: If it must be signed and is not.
        UsageError: If a setting has no meaning.
        BackendError: If the runtime is not installed.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise UsageError(f"a bundle is given by its name or path, not by {name_or_path!r}.")
    folder = None if trusted_keys is None else Path(trusted_keys)
    keys = choose_trusted_keys(folder=folder, required=require_signed)
    bundle = read_bundle(find_bundle(os.fspath(name_or_path)), trusted=keys)
    return Model.open(bundle, RunOptions(backend, precision, threads, gate=gate))


def segment_file(
    model: "Model",
    source: Image,
    output: Path | str,
    options: OutputOptions | None = None,
    *,
    read: ReadOptions | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> SavedResult:
    """Read one image, segment it, and write its results into a folder.

    Args:
        model: The model.
        source: A file, the folder of a DICOM series, or an image that is open.
        output: Folder for the results; all of them are written, or none.
        options: What is written.
        read: How the file is opened.
        on_frame: Called with the number of frames done.

    Returns:
        The folder, the names of its files, and the report.

    Raises:
        UsageError: If the mask of this image cannot be in that format.
        BackendError: If an SR is asked for, and what writes it is not installed.
        InputError: If the image is refused.
        OutputError: If a result cannot be written.
    """
    options = options or OutputOptions()
    opened = open_image(source, read=read or ReadOptions())
    choose_format(opened, model.bundle, options)
    result = model.segment_source(
        opened, with_probabilities=options.with_probabilities, on_frame=on_frame
    )
    return write_results(result, Path(output), options)


class Model:
    """A loaded bundle, for any number of images and threads; see `bedside.load`.

    Args:
        bundle: The bundle.
        segmenter: Its network and pipeline.
        options: Backend, precision, threads, memory limit.
    """

    def __init__(
        self, bundle: Bundle, segmenter: Segmenter, *, options: RunOptions | None = None
    ) -> None:
        self.bundle = bundle
        self.segmenter = segmenter
        self.options = options or RunOptions()

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        options: RunOptions | None = None,
        *,
        on_choice: Callable[[str], None] = lambda text: None,
    ) -> "Model":
        """Return a model of a bundle that has been read.

        Args:
            bundle: The bundle.
            options: Backend, precision, threads, memory limit.
            on_choice: Called with a sentence if backends and precisions were timed.

        Raises:
            BackendError: If the runtime is not installed.
        """
        options = options or RunOptions()
        segmenter = open_segmenter(
            bundle,
            backend=options.backend,
            precision=options.precision,
            threads=options.threads,
            gate=options.gate,
            on_choice=on_choice,
        )
        return cls(bundle, segmenter, options=options)

    def segment(
        self,
        image: "Image | Mapping[str, Image]",
        *,
        affine: ArrayLike | None = None,
        space: Space | None = None,
        spacing_mm: Sequence[float] | None = None,
        modality: str | None = None,
        with_probabilities: bool = False,
        force: bool = False,
        read: ReadOptions | None = None,
    ) -> Result:
        """Return the result of segmenting one image: a still, a film, or a scan.

        Args:
            image: A path; bytes or a binary file; a pydicom `Dataset`, or several of one series;
                an array, see `ImageSequence.from_array`; an `ImageSequence` or a `Source`.
                Where the bundle names its channels, also a mapping from names to such images.
            affine: For an array: (4, 4), maps an index in array order to mm.
            space: Space of the affine: "LPS" or "RAS".
            spacing_mm: (row, column) spacing if the image has none; for an array without an
                affine also (slice, row, column).
            modality: For an array: in DICOM terms, such as "US".
            with_probabilities: Keep class probabilities, which otherwise need a second run.
            force: Accept images of another modality than the bundle's.
            read: How files are opened.

        Raises:
            InputError: If the image is refused.
            UsageError: If an argument does not fit this image.
            ClosedError: If the model was closed.
        """

        def opened(image: Image) -> Source:
            return open_image(
                image, read=read or ReadOptions(), affine=affine, space=space,
                spacing_mm=spacing_mm, modality=modality,
            )  # fmt: skip

        if isinstance(image, Mapping):
            channels = {name: opened(channel) for name, channel in image.items()}
            source = join_named(channels, self.bundle.spec.input)
        else:
            source = opened(image)
        is_plane = isinstance(image, np.ndarray) and (
            image.ndim == 2 or (image.ndim == 3 and source.sequence.shape[1] == 3)
        )
        return self.segment_source(
            source, is_plane=is_plane, with_probabilities=with_probabilities, force=force
        )

    def segment_source(
        self,
        source: Source,
        *,
        is_plane: bool = False,
        with_probabilities: bool = False,
        force: bool = False,
        on_frame: Callable[[int], None] | None = None,
    ) -> Result:
        """Return the result of segmenting an image that is open.

        Args:
            source: The image.
            is_plane: Return labels as (H, W).
            with_probabilities: Keep class probabilities.
            force: Accept images of another modality than the bundle's.
            on_frame: Called with the number of frames done.

        Raises:
            InputError: If the image is refused.
            ClosedError: If the model was closed.
        """
        self.segmenter.session.check_open()
        force = force or self.options.force
        started_ms, begin = startup_ms(), time.perf_counter()
        with _naming(source):
            check_sides(source, self.bundle.spec.labels, force=force)
            source = replace(source, sequence=self.segmenter.resolve_axes(source.sequence))

        def run(
            probabilities: bool,  # noqa: FBT001
            on_frame: Callable[[int], None] | None = None,
        ) -> Segmentation:
            with _naming(source):
                return self.segmenter.segment_sequence(
                    source.sequence, on_frame=on_frame, force=force,
                    max_bytes=self.options.max_bytes, probabilities=probabilities,
                )  # fmt: skip

        found = run(with_probabilities, on_frame)
        wall_s = time.perf_counter() - begin
        facts = self._state_facts(source, found, wall_s=wall_s, startup_ms=started_ms, force=force)
        trim_heap()
        scaled = replace(source, sequence=match_scale(source.sequence, found))
        return Result(scaled, self.bundle, found, facts, lambda: run(True), is_plane=is_plane)

    def stream(
        self,
        *,
        deadline_ms: float = 33.0,
        spacing_mm: tuple[float, float] | None = None,
        sample: ImageSequence | Sequence[np.ndarray] = (),
        steady: bool = False,
        on_event: Callable[[Event], None] | None = None,
    ) -> LiveStream:
        """Open a stream, for frames that keep coming; close it before the model.

        Args:
            deadline_ms: Time from the arrival of a frame to its mask.
            spacing_mm: (row, column) distance of pixels in frames of the first size; None if
                unknown.
            sample: The film that the frames belong to, or frames of the same view, where these
                are known before; the plan is made from them.
            steady: Whether masks are steadied over time; they then lag behind by about half a
                frame.
            on_event: Called with each event, by the thread that segments.

        Returns:
            The stream, ready for frames.

        Raises:
            UsageError: If the bundle takes more than one frame at a time.
            InputError: If the sample is refused.
            ClosedError: If the model was closed.
        """
        self.segmenter.session.check_open()
        return LiveStream(
            self.bundle, self.segmenter, deadline_ms=deadline_ms, spacing_mm=spacing_mm,
            sample=sample, force=self.options.force, steady=steady, on_event=on_event,
        )  # fmt: skip

    def close(self) -> None:
        """Release the network; calls in progress finish, later ones raise `ClosedError`."""
        self.segmenter.session.close()

    def __enter__(self) -> "Model":
        """Return the model; it is closed at the end of the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the model."""
        self.close()

    def _state_facts(
        self, source: Source, found: Segmentation, *, wall_s: float, startup_ms: float, force: bool
    ) -> RunFacts:
        """Bundle, runtime and cost of a run."""
        bundle, session = self.bundle, self.segmenter.session
        package = find_backend(session.backend).package
        return RunFacts(
            source=printable(source.path.name),
            backend=session.backend,
            precision=session.precision,
            threads=session.threads,
            wall_s=wall_s,
            startup_ms=startup_ms,
            peak_memory_mb=peak_memory_mb(),
            predicted_memory_mb=(
                round(found.memory.peak_bytes / 2**20, 1) if found.memory else None
            ),
            bundle=BundleFacts(
                name=bundle.spec.name,
                version=bundle.spec.version,
                sha256=bundle.sha256,
                bytes=bundle.size_bytes,
                license=bundle.card.license,
            ),
            runtime=f"{package} {package_version(package)}",
            options={"force": force, "gate": self.segmenter.policy, **source.opened_with},
        )

    def __repr__(self) -> str:
        """Bundle, runtime and structures."""
        spec, session = self.bundle.spec, self.segmenter.session
        names = ", ".join(label.name for label in spec.labels)
        return (
            f"<Model {spec.name} {spec.version}: {names}; {session.backend} {session.precision}, "
            f"{session.threads} threads>"
        )


@contextmanager
def _naming(source: Source) -> Iterator[None]:
    """Prefix errors of the pipeline, which does not know files, with the name of the file."""
    try:
        yield
    except InputError as error:
        if source.path.name in str(error):
            raise
        raise type(error)(f"{source.path}: {error}") from error
    except MemoryError as error:
        raise MemoryLimitError(f"{source.path}: there is not enough memory: {error}") from error
