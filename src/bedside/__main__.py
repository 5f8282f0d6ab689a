"""The command as a module, `python -m bedside`: what `torchrun -m bedside` starts."""

from bedside.cli.program import run_program

if __name__ == "__main__":
    run_program()
