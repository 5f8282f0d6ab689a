"""GPU kernels of sparse attention: checked against float64.

Without a GPU they are checked in Triton's interpreter, in f16 and f32: it has no bf16 products,
and a kernel that passes in it has yet to pass on a device.

    TRITON_INTERPRET=1 python benchmarks/gpu_kernels.py
"""

import argparse
import sys
import time

import torch

import gpu_kernel_checks as checks

INTERPRETED = (torch.float16, torch.float32)


def main() -> int:
    """Check all shapes; the exit code is 1 if an error is larger than SDPA's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, default=1000, help="random shapes to check")
    options = parser.parse_args()
    torch.set_num_threads(1)
    checks.speed_up_interpreter()
    begun, used = time.perf_counter(), time.process_time()
    errors = checks.check_random(options.shapes, INTERPRETED)
    for name, pair in errors.items():
        print(
            f"{name}: {len(pair.kernel.rms)} results, error {pair.kernel.mean:.2e} (SDPA "
            f"{pair.sdpa.mean:.2e}), largest {pair.kernel.worst:.2e} ({pair.sdpa.worst:.2e})"
        )
    print(f"{time.perf_counter() - begun:.0f} s, {time.process_time() - used:.0f} s of a core")
    return 0 if all(pair.holds for pair in errors.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
