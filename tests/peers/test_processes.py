"""Running another library's interpreter: not there, wrong, failing, hanging."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.calibration.walk import Calibration
from harness.errors import Refused, UserError
from harness.method.recipe import BoundStep, compress
from harness.model.view import MoEModel
from harness.peers import worker_process
from harness.peers.peer import GPTQMODEL, LLM_COMPRESSOR
from methods.quantization.gptqmodel import GPTQModel

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]
Make = Callable[..., None]


def run(model: MoEModel, calibration: Calibration) -> None:
    compress(model, [BoundStep(GPTQModel(), calibration)])


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make a shell script GPTQModel's interpreter; it answers -c with versions."""
    monkeypatch.setenv("MOEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(GPTQMODEL.variable, raising=False)
    path = tmp_path / "python"

    def make(script: str, versions: str = '{"gptqmodel": "7.6.0", "torch": "2.13.0"}') -> None:
        path.write_text(
            f"#!/bin/sh\nif [ \"$1\" = -c ]; then echo '{versions}'; exit; fi\n{script}\n"
        )
        path.chmod(0o755)
        monkeypatch.setenv(GPTQMODEL.variable, str(path))

    return make


def test_an_interpreter_that_is_not_there(
    interpreter: Make,
    tiny: Tiny,
    calibration: Calibrate,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=r"needs an interpreter of its own: .*'moebench doctor'"):
        run(tiny("mixtral"), calibration())
    assert "-m venv" in GPTQMODEL.finding()
    assert "pip install torch==2.13.0 transformers==5.23.0 gptqmodel==7.6.0" in GPTQMODEL.finding()
    monkeypatch.setenv(GPTQMODEL.variable, str(tmp_path))
    with pytest.raises(UserError, match=r"GPTQMODEL_PYTHON names .* not an executable file"):
        GPTQMODEL.interpreter()
    assert LLM_COMPRESSOR.variable == "MOEBENCH_LLM_COMPRESSOR_PYTHON"


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ("what?", "does not answer like a Python interpreter"),
        (
            '{"torch": "2.13.0"}',
            "has no gptqmodel; run '.*python -m pip install gptqmodel==7",
        ),
        ('{"gptqmodel": "7.7.0"}', "has version 7.7.0, not 7.6.0; install that, or set version"),
    ],
)
def test_another_interpreter(
    versions: str,
    said: str,
    interpreter: Make,
    tiny: Tiny,
    calibration: Calibrate,
) -> None:
    interpreter("", versions)
    with pytest.raises(UserError, match=said):
        run(tiny("mixtral"), calibration())


def test_a_peer_works_without_a_cache_to_write(
    interpreter: Make, tiny: Tiny, calibration: Calibrate, tmp_path: Path
) -> None:
    interpreter("echo hm; exit 1")
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(UserError, match=r"ended with exit code 1: hm\.$"):
        run(tiny("mixtral"), calibration())
    (tmp_path / "cache").unlink()
    with pytest.raises(UserError, match=r"code 1: hm \(all of its output: .*-\d+\.log\)\.$"):
        run(tiny("mixtral"), calibration())
    [log] = (tmp_path / "cache" / "peers").iterdir()
    assert log.read_text() == "hm\n"


def test_the_doctor_finds_it(interpreter: Make, tmp_path: Path) -> None:
    interpreter("")
    assert GPTQMODEL.finding() == f"gptqmodel 7.6.0, torch 2.13.0 ({tmp_path}/python)"


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [
        (
            "echo hm >&2; echo 'ValueError: no such thing.'; exit 1",
            UserError,
            "code 1: .*such",
        ),
        ("echo 'OSError: a\nb' > $2/failure.txt; exit 1", UserError, "code 1: OSError: a b"),
        ("exit 4", UserError, "code 4: it said nothing"),
        ("kill -9 $$", UserError, "killed by SIGKILL; the system probably ran out of memory"),
        (
            "printf 'it cannot\n do.' > $2/refusal.txt; exit 3",
            Refused,
            "^gptqmodel: it cannot",
        ),
        ("exit 0", UserError, "ended without a report"),
    ],
)
def test_a_worker_that_fails(
    script: str,
    kind: type[UserError],
    said: str,
    interpreter: Make,
    tiny: Tiny,
    calibration: Calibrate,
) -> None:
    interpreter(script)
    with pytest.raises(kind, match=said) as error:
        run(tiny("mixtral"), calibration())
    assert "\n" not in str(error.value)
    assert isinstance(error.value, Refused) == (kind is Refused)


def test_a_worker_that_hangs_ends_with_all_it_started(
    interpreter: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    interpreter(f"sleep 600 & echo $! > {tmp_path}/child; sleep 600")
    monkeypatch.setenv(worker_process.TIMEOUT, "2")
    with pytest.raises(UserError, match="was stopped after 2 seconds; set MOEBENCH_PEER_"):
        worker_process.work(GPTQMODEL, tmp_path)
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not _alive(child):
            break
        time.sleep(0.1)
    assert not _alive(child)


def test_a_real_worker_answers_for_what_it_raises(interpreter: Make, tmp_path: Path) -> None:
    """Our end of the worker, under our own interpreter: an error, wrapped or not, is told."""
    workers = GPTQMODEL.worker.parent
    script = tmp_path / "script.py"
    interpreter(f'exec {sys.executable} {script} "$2"')
    for raised, kind, said in (
        ("raise ValueError('no\\nway')", UserError, "code 1: ValueError: no way"),
        ("raise RuntimeError('x') from Unable('it cannot.')", Refused, "gptqmodel: it cannot."),
    ):
        script.write_text(
            f"import sys, time\nsys.path.insert(0, {str(workers)!r})\n"
            "import peer_job\nfrom peer_job import Unable, main\npeer_job.PeerJob = str\n"
            f"def quantize(job):\n    {raised}\nmain('torch', quantize)\n"
        )
        with pytest.raises(kind, match=said) as error:
            worker_process.work(GPTQMODEL, tmp_path)
        assert isinstance(error.value, Refused) == (kind is Refused)


def test_a_worker_ends_when_nobody_waits_for_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys, time\nsys.path.insert(0, {str(GPTQMODEL.worker.parent)!r})\n"
        "import peer_job\npeer_job.PeerJob = str\n"
        "peer_job.main('torch', lambda job: time.sleep(600))\n"
    )
    command = [sys.executable, str(script), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        worker.stdin.close()
        assert worker.wait(60) == 1


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_a_patience_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(worker_process.TIMEOUT, text)
    with pytest.raises(UserError, match="give seconds, more than 0"):
        worker_process.patience()


def test_a_worker_sees_nothing_of_our_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("GPTQMODEL_CPU_WORKERS", "7")
    described = worker_process.environment()
    assert "PYTHONPATH" not in described
    assert described["GPTQMODEL_CPU_WORKERS"] == "7"
    assert described["HF_HUB_OFFLINE"] == "1"


def _alive(number: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    status = Path(f"/proc/{number}/status")
    try:
        return "\nState:\tZ" not in status.read_text() if status.exists() else _signalled(number)
    except OSError:
        return False


def _signalled(number: int) -> bool:
    if Path("/proc/self").exists():
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True
