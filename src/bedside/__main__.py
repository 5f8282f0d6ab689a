"""The command as a module, `python -m bedside`: what `torchrun -m bedside` starts."""

import sys

from bedside.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
