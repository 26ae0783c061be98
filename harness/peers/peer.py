"""Another library: where its interpreter is, which releases it has, and how to make it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.disk.reading import parse_object
from harness.errors import UserError
from harness.places import cache_folder

_ASK = """
import importlib.metadata, json, sys
versions = {}
for name in sys.argv[1:]:
    try:
        versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(versions))
"""
_PATIENCE = 60.0
"""Seconds that an interpreter has to say what is installed."""


@dataclass(frozen=True)
class Peer:
    """A library whose requirements clash with ours, so that it has an environment of its own.

    Attributes:
        name: As a method.
        package: The distribution, and the module.
        version: The release that was tried.
        pins: What else was installed with it then.
    """

    name: str
    package: str
    version: str
    pins: tuple[str, ...]

    @property
    def variable(self) -> str:
        """The environment variable that names the interpreter."""
        return f"MOEBENCH_{self.name.replace('-', '_').upper()}_PYTHON"

    @property
    def environment(self) -> Path:
        """The folder of the interpreter's environment, unless the variable says otherwise."""
        return cache_folder() / "peers" / self.name

    @property
    def worker(self) -> Path:
        """The script that it runs."""
        return Path(__file__).parent / "workers" / f"{self.name.replace('-', '_')}_worker.py"

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that decide its results: the worker, and those that it imports as a script."""
        names = (self.worker.stem, "bit_stream", "peer_job")
        return tuple(f"harness.peers.workers.{name}" for name in names)

    @property
    def advice(self) -> str:
        """The shell commands that make the environment."""
        packages = " ".join((*self.pins, f"{self.package}=={self.version}"))
        here = self.environment
        return f"python -m venv {here} && {here}/bin/python -m pip install {packages}"

    def interpreter(self) -> Path:
        """The peer's Python.

        Raises:
            UserError: it is not there.
        """
        given = os.environ.get(self.variable)
        path = Path(given) if given else self.environment / "bin" / "python"
        if not os.access(path, os.X_OK) or path.is_dir():
            where = f"{self.variable} names {given}, which" if given else f"{path}"
            raise UserError(
                f"{self.name} needs an interpreter of its own: {where} is not an executable file; "
                f"'moebench doctor' says how to make one."
            )
        return path

    def installed(self) -> Mapping[str, str]:
        """Versions of the peer, torch and transformers under its interpreter.

        Raises:
            UserError: no interpreter, one that does not answer, or no peer in it.
        """
        path = self.interpreter()
        command = [str(path), "-c", _ASK, self.package, "torch", "transformers"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_PATIENCE, check=True
            )
            versions = parse_object(done.stdout, str(path))
        except (OSError, subprocess.SubprocessError, UserError, ValueError) as error:
            raise UserError(
                f"{self.name}: {path} does not answer like a Python interpreter "
                f"({type(error).__name__}); set {self.variable} to another."
            ) from error
        if self.package not in versions:
            raise UserError(
                f"{self.name}: {path} has no {self.package}; run '{path} -m pip install "
                f"{self.package}=={self.version}'."
            )
        return versions

    def finding(self) -> str:
        """The line that `moebench doctor` prints."""
        try:
            versions = self.installed()
        except UserError:
            return f"not there; {self.advice}, or {self.variable} names its interpreter"
        listed = ", ".join(f"{name} {version}" for name, version in versions.items())
        return f"{listed} ({self.interpreter()})"


GPTQMODEL = Peer("gptqmodel", "gptqmodel", "7.6.0", ("torch==2.13.0", "transformers==5.23.0"))
LLM_COMPRESSOR = Peer("llm-compressor", "llmcompressor", "0.14.0.1", ("torch==2.13.0",))
PEERS = (GPTQMODEL, LLM_COMPRESSOR)
