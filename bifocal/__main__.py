"""`python -m bifocal`, as torchrun starts it: `torchrun … -m bifocal train RECIPE`."""

from bifocal.cli.main import run

if __name__ == "__main__":
    run()
