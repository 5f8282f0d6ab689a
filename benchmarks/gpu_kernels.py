"""GPU kernels of sparse attention: checked against float64, timed against what torch has.

On a GPU every class of shapes is compiled, compared and run three times, in several processes,
then timed until the seconds are over. Without one, random shapes are checked in Triton's
interpreter, in f16 and f32: it has no bf16 products, and a kernel that passes in it has yet to
pass on a device; the page says `not measured`.

    python benchmarks/gpu_kernels.py
"""

import argparse
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

# Before NumPy is there: small products are slower with threads that wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

ON_GPU = torch.cuda.is_available()
if not ON_GPU:
    # Triton decides when it is imported.
    os.environ["TRITON_INTERPRET"] = "1"

import gpu_kernel_checks as checks  # noqa: E402
import gpu_kernel_device as device  # noqa: E402
import gpu_kernel_page as page  # noqa: E402
from bedside.runtime.machine import describe_processor, read_load  # noqa: E402
from bedside.system.atomic import write_text  # noqa: E402

INTERPRETED = (torch.float16, torch.float32)


def main() -> int:
    """Check, time and write the page; the exit code is 1 if an error is larger than SDPA's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, default=1000, help="random shapes to interpret")
    parser.add_argument(
        "--exact-products",
        action="store_true",
        help="interpret matrix products in float64, rounded once; writes no page",
    )
    parser.add_argument("--seconds", type=float, default=235.0, help="time for all of it on a GPU")
    parser.add_argument("--workers", type=int, default=12, help="processes that compile and check")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    if ON_GPU:
        found = device.run(seconds=options.seconds, workers=options.workers)
        table = options.output / "devices.toml"
        write_text(table, device.to_rows(found))
        print(f"{table}: put it into src/bedside/layers/kernels if the page looks right")
        passed, text = found.passed, page.write_measured(found)
    else:
        torch.set_num_threads(1)
        checks.speed_up_interpreter(exact_products=options.exact_products)
        load, begun, used = read_load(), time.perf_counter(), time.process_time()
        errors = checks.check_random(options.shapes, INTERPRETED)
        passed = all(pair.holds for pair in errors.values())
        text = page.write_interpreted(
            errors,
            machine=f"{describe_processor()}; triton {version('triton')}, torch "
            f"{torch.__version__}",
            shapes=options.shapes,
            core_s=time.process_time() - used,
            clock_s=time.perf_counter() - begun,
            load=load,
        )
    if not options.exact_products:
        write_text(options.output / "gpu_kernels.md", text)
    print(text)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
