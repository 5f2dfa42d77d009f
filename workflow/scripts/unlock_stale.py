"""Clean up after a run of this folder that was killed: its orphaned jobs, their half-written files, and its lock.

A run that is alive is left alone, and the command ends with status 1 and the reason.
"""

import subprocess
import sys
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from onebasin.storage.files import remove_leftovers

HERE = Path.cwd()
JOB_SCRIPTS = f"{HERE}/.snakemake/scripts/"


def in_this_folder(process: psutil.Process) -> bool:
    try:
        return Path(process.cwd()) == HERE
    except (psutil.Error, OSError):
        return False


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def is_snakemake(words: list[str]) -> bool:
    """Whether a command line is Snakemake's own; a job only mentions its folder."""
    return any(Path(word).name == "snakemake" or word.endswith("snakemake/__main__.py") for word in words[:3]) or (
        words[1:3] == ["-m", "snakemake"]
    )


ours = {process.pid for process in [psutil.Process(), *psutil.Process().parents()]}
here = {process: command_line(process) for process in psutil.process_iter() if in_this_folder(process)}
alive = [process for process, words in here.items() if is_snakemake(words) and process.pid not in ours]
if alive:
    sys.exit(f"onebasin: {HERE}: a run (process {alive[0].pid}) is at work here; wait for it or stop it")
orphans = [process for process, words in here.items() if any(JOB_SCRIPTS in word for word in words)]
for process in orphans:
    process.kill()
psutil.wait_procs(orphans, timeout=10)
remove_leftovers(HERE / "results")
if any((HERE / ".snakemake" / "locks").glob("*")):
    subprocess.run([sys.executable, "-m", "snakemake", *sys.argv[1:], "--unlock"], check=True, capture_output=True)
