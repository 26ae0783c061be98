"""`python -m harness` is `moebench`."""

from harness.cli import main

if __name__ == "__main__":
    main()
