"""The command line. One file per verb; nothing heavy is imported before a verb runs.

Imports calibration, disk, errors, evaluate, export, judge, measure, method, model, peers,
places, plan, records, reference, report, run, words.
"""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run `moebench` with the process's arguments, and exit."""
    from harness.cli.owners import refuse_foreign_packages
    from harness.errors import UserError
    from harness.words import told

    if isinstance(sys.stdout, io.TextIOWrapper):  # one that lacks a letter shows its number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        refuse_foreign_packages()
    except UserError as error:
        sys.stderr.write(f"moebench: {told(str(error))}\n")
        sys.exit(2)

    try:
        from harness.cli.app import app

        app(prog_name="moebench")
    except KeyboardInterrupt:  # before a verb runs; `Verbs` catches those during one
        sys.exit(130)
