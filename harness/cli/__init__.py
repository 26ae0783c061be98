"""The command line. One file per verb; nothing heavy is imported before a verb runs.

Imports cache, calibration, disk, errors, evaluate, export, judge, measure, method, model,
peers, places, plan, records, reference, report, run, words.
"""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run `moebench` with the process's arguments, and exit."""
    try:
        from harness.cli.process.endings import end, heed_signals, leave, settle_output
        from harness.cli.process.owners import refuse_foreign_packages
    except KeyboardInterrupt:
        sys.stderr.write("moebench: interrupted.\n")
        sys.exit(130)
    if isinstance(sys.stdout, io.TextIOWrapper):  # one that lacks a letter shows its number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        heed_signals()
        refuse_foreign_packages()
        from harness.cli.app import app

        app(prog_name="moebench")
    except SystemExit as ending:
        if (error := settle_output()) is not None and not ending.code:
            leave(end(error))
        leave(ending.code)
    except BaseException as error:  # before a verb runs; `Verbs` catches those during one
        leave(end(error))
