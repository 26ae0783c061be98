"""The ends of a command: exit code 1 is only ever a verb's own answer, and all else a sentence."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.process.endings import Stopped

GROUP: Any = typer.main.get_command(app)
ENDINGS = [
    (MemoryError(), 2, "no memory is left"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "no memory is left"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), 2, "no memory is left"),
    (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 2, "/x/y: no space left on the"),
    (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 2, "/x/y: Permission denied."),
    (OSError(errno.EROFS, "Read-only file system", "/x/y"), 2, "/x/y: Read-only file system."),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, "the output was closed before all of it"),
    (KeyboardInterrupt(), 130, "interrupted."),
    (Stopped(signal.SIGTERM), 143, "terminated."),
]
BUGS = [
    *(KeyError("x"), EOFError(), ZeroDivisionError("y"), RecursionError("z"), typer.Abort()),
    *(FileNotFoundError(errno.ENOENT, "No such file", "/x"), SystemExit(1), SystemExit(0)),
]


def needed(verb: str) -> list[str]:
    """Arguments with which a verb gets as far as its own code."""
    given: list[str] = []
    for parameter in GROUP.commands[verb].params:
        if parameter.required:
            option = parameter.param_type_name == "option"
            given += [parameter.opts[0], "x"] if option else ["x"]
    return given


def ended(verb: str, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(typer.core.TyperCommand, "invoke", fail)
    result = CliRunner().invoke(app, [verb, *needed(verb)])
    return result.exit_code, result.stderr


@pytest.mark.parametrize("verb", sorted(GROUP.commands))
def test_a_bug_in_any_verb_keeps_its_traceback_and_never_ends_with_1(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in BUGS:
        code, said = ended(verb, error, monkeypatch)
        assert code == 70, error
        assert "Traceback (most recent call last)" in said
        assert said.splitlines()[-1].startswith("moebench: this is a bug")


@pytest.mark.parametrize("verb", sorted(GROUP.commands))
def test_what_the_machine_does_to_any_verb_is_a_sentence(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, expected, sentence in ENDINGS:
        code, said = ended(verb, error, monkeypatch)
        assert (code, said.count("\n"), said.startswith(f"moebench: {sentence}")) == (
            *(expected, 1, True),
        )


def test_a_verbs_own_answer_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended("gate", typer.Exit(1), monkeypatch) == (1, "")


@pytest.mark.parametrize("place", ["closed", "full"])
def test_output_that_goes_nowhere_is_a_sentence(place: str) -> None:
    command = [sys.executable, "-m", "harness", "list", "suites"]
    if place == "full":
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
        expected = (2, b"moebench: the output cannot be written: no space left on the device")
    else:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
        os.close(writer)
        expected = (141, b"moebench: the output was closed before all of it was written.")
    assert done.returncode == expected[0]
    assert done.stderr.startswith(expected[1])
    assert done.stderr.count(b"\n") == 1


STOPPED = """
import sys, time
from harness.cli import app as app_module, main
def wait(*_):
    print("there", flush=True)
    exec("time.sleep(60)")  # as in the middle of an import
app_module.Verbs.invoke.__globals__["TyperGroup"].invoke = wait
sys.argv[1:] = ["doctor"]
main()
"""


def _heed_interrupts() -> None:
    """Undo what a shell does to a command in the background: it ignores Ctrl-C, and so do we."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("sent", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_a_signal_is_a_sentence(sent: signal.Signals, word: str) -> None:
    command = [sys.executable, "-c", STOPPED]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_heed_interrupts,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        time.sleep(0.05)
        process.send_signal(sent)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (128 + sent, f"moebench: {word}.\n".encode())
