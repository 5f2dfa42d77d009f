"""Snakemake's output where no terminal shows bars: what is to do, a line now and then, all that is said of failures.

snakemake ... 2>&1 | python workflow/scripts/brief.py
"""

import re
import signal
import sys
import time

SECONDS_BETWEEN_LINES = 30
JOB = re.compile(r"(local)?(rule|checkpoint) \w+:|Finished jobid: |Touching output file")
NOISE = re.compile(r"Select jobs to execute\.\.\.|Execute \d+ jobs\.\.\.|\[\w{3} \w{3} [ \d]\d [\d:]+ \d{4}\]|$")
STEPS = re.compile(r"(\d+) of (\d+) steps \(\d+%\) done")

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Snakemake gets it too, and has something to say about it
start = last = time.monotonic()
in_job, started = False, False
for line in sys.stdin:
    started = started or line.startswith(("Job stats:", "Nothing to be done", "onebasin:")) or "rror" in line
    in_job = JOB.match(line) is not None or (in_job and line.startswith("    "))
    steps = STEPS.match(line)
    if steps:
        done, total, now = int(steps[1]), int(steps[2]), time.monotonic()
        if done == total or now - last >= SECONDS_BETWEEN_LINES:
            left = f", about {(now - start) * (total - done) / done / 60:.0f} min left" if done < total else ""
            print(f"{done} of {total} jobs done{left}", flush=True)
            last = now
    elif started and not in_job and not NOISE.match(line):
        print(line, end="", flush=True)
