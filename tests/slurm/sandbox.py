"""A real SLURM on this machine, for as long as a `with` lasts: munged, slurmctld and slurmd, on ports of their own.

Runs as root and as anybody else; everything it writes is in one folder. The daemons are children of this process and
end with it, however it ends. By hand: `python tests/slurm/sandbox.py bash`, then `squeue`, `sbatch`, ...
"""

import contextlib
import fcntl
import os
import platform
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

HERE = Path(__file__).parent
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")


def missing() -> list[str]:
    """The programs that this needs and the machine does not have (Debian: slurm-wlm and munge)."""
    return [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]


@contextlib.contextmanager
def sandbox(folder: Path) -> Iterator[dict[str, str]]:
    """Start the cluster with its state in `folder`, one at a time on a machine; yields its users' environment."""
    with _only_one(), contextlib.ExitStack() as daemons:
        _configure(folder)
        environment = {**os.environ, "PATH": f"{folder}/bin:{PATH}", "SLURM_CONF": f"{folder}/slurm.conf"}

        def start(name: str, *arguments: str) -> None:
            with (folder / f"{name}.log").open("wb") as log:
                # the kernel ends the daemon with its parent, should that be killed
                command = ["setpriv", "--pdeathsig", "KILL", name, *arguments]
                daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            daemons.callback(_end, daemon)

        def answers(*command: str, word: str = "") -> Callable[[], bool]:
            def asked() -> bool:
                done = subprocess.run(command, env=environment, capture_output=True, text=True)
                return done.returncode == 0 and word in done.stdout

            return asked

        key, munge = folder / "munge.key", folder / "munge.socket"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        own = [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "log", "seed")]
        start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}", *own)
        _wait(answers("munge", "--no-input", f"--socket={munge}"), "munged", folder)
        start("slurmctld", "-D", "-i")
        _wait(answers("scontrol", "ping", word="UP"), "slurmctld", folder)
        start("slurmd", "-D", "-N", _host())
        _wait(answers("sinfo", "--noheader", "--format=%T", word="idle"), "slurmd", folder)
        daemons.callback(subprocess.run, ["scancel", f"--user={_user()}"], env=environment)
        yield environment


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    with (Path(tempfile.gettempdir()) / f"onebasin-slurm-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _configure(folder: Path) -> None:
    folder.chmod(0o755)
    for part in ("state", "spool", "bin"):
        (folder / part).mkdir(mode=0o755)
    facts = {"host": _host(), "user": _user(), "folder": folder, "memory": psutil.virtual_memory().total >> 20}
    facts |= dict(zip(("controller_port", "node_port"), _free_ports(2), strict=True))
    for name in ("slurm.conf", "gres.conf"):
        (folder / name).write_text((HERE / name).read_text().format(**facts))
    # a job step forgets SLURM_CONF before it calls srun, and would look in /etc/slurm
    srun = folder / "bin" / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun", path=PATH)} "$@"\n')
    srun.chmod(0o755)


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _host() -> str:
    return platform.node().partition(".")[0]


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as sockets:
        found = [sockets.enter_context(socket.socket()) for _ in range(number)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


def _wait(ready: Callable[[], bool], what: str, folder: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} does not answer:\n{(folder / what).with_suffix('.log').read_text()[-2000:]}")
        time.sleep(0.1)


def _end(daemon: subprocess.Popen) -> None:
    daemon.terminate()
    try:
        daemon.wait(timeout=20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="slurm-") as place, sandbox(Path(place)) as its_environment:
        sys.exit(subprocess.run(sys.argv[1:], env=its_environment).returncode)
