"""The command as a module, `python -m bedside`: what `torchrun -m bedside` starts."""

import sys

from bedside.cli.program import run_program

if __name__ == "__main__":
    sys.exit(run_program())
