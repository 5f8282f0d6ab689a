"""Does a bundle keep its promise? Its time in a process of its own, beside the source's.

A walk times graphs in a process that has done much else. What was promised is therefore
measured again where nothing is warm, and where nothing can be shared by accident.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from bedside.autopilot.timing import Setting, Timed, time_graphs
from bedside.bundle import read_bundle
from bedside.errors import BackendError
from bedside.runtime.variants import GRAPH_OF

_PATIENCE_S = 600


@dataclass(frozen=True)
class Promise:
    """What was promised, and what was measured.

    Attributes:
        promised_ms: Time of the result as the walk measured it.
        fresh_ms: The same in a fresh process.
        reference_ms: Time of the source as the walk measured it.
        fresh_reference_ms: The same, in turns with the result in the fresh process.
    """

    promised_ms: float
    fresh_ms: float
    reference_ms: float
    fresh_reference_ms: float

    @property
    def error(self) -> float:
        """How far the promise is off, as a part of what was measured.

        Example:
            >>> round(Promise(2.9, 3.0, 6.0, 6.1).error, 3)
            -0.033
        """
        return self.promised_ms / self.fresh_ms - 1

    @property
    def relative_error(self) -> float:
        """The same of the time over the source's, which a machine that got slower leaves alone.

        Example:
            >>> round(Promise(1.0, 1.5, 4.0, 6.0).relative_error, 3)
            0.0
        """
        promised = self.promised_ms / self.reference_ms
        return promised / (self.fresh_ms / self.fresh_reference_ms) - 1


def time_afresh(
    bundle: Path,
    source: bytes,
    *,
    setting: Setting,
    promised_ms: float,
    reference_ms: float,
    total_s: float = 6.0,
) -> Promise:
    """Time a bundle and the source's graph in turns, in a process that does nothing else.

    Args:
        bundle: The bundle.
        source: The source's f32 graph.
        setting: How the bundle runs; the source runs so in f32.
        promised_ms: What the walk says of the bundle.
        reference_ms: What it says of the source.
        total_s: Seconds that it is timed for.

    Raises:
        BackendError: If the process fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "source.onnx"
        graph.write_bytes(source)
        asked = json.dumps(
            {
                "bundle": str(bundle),
                "source": str(graph),
                "setting": asdict(setting),
                "total_s": total_s,
            }
        )
        command = [sys.executable, "-m", "bedside.autopilot.fresh"]
        try:
            done = subprocess.run(
                command,
                input=asked,
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
                check=True,
            )
        except subprocess.SubprocessError as error:
            reason = getattr(error, "stderr", "") or str(error)
            raise BackendError(f"timing {bundle} in a fresh process failed: {reason}") from error
    times = json.loads(done.stdout)
    return Promise(promised_ms, times["bundle"], reference_ms, times["source"])


def _main() -> None:
    asked = json.load(sys.stdin)
    bundle, setting = read_bundle(Path(asked["bundle"])), Setting(**asked["setting"])
    shape = (1, bundle.spec.input.channels, *bundle.spec.input.size_px)
    graph = bundle.read_graph(GRAPH_OF[setting.precision])
    plain = Setting(setting.backend, "f32", setting.threads)
    graphs = {
        "bundle": Timed(graph, shape, setting),
        "source": Timed(Path(asked["source"]).read_bytes(), shape, plain),
    }
    json.dump(time_graphs(graphs, asked["total_s"]), sys.stdout)


if __name__ == "__main__":
    _main()
