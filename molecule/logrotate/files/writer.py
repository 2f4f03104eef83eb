# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that numbers its log lines and opens its logs anew on SIGUSR1, as servers do."""

import signal
import sys
import time

PATHS = sys.argv[1:]
logs = []


def reopen(*arguments):
    for log in logs:
        log.close()
    logs[:] = [open(path, "a", buffering=1) for path in PATHS]


signal.signal(signal.SIGUSR1, reopen)
reopen()
number = 0
while True:
    number += 1
    for log in logs:
        log.write(f"line {number}\n")
    time.sleep(0.02)
