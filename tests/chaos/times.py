"""How long things take in a history, in seconds."""

from __future__ import annotations

from gpu_bootstrap.hostlink.deadman import Limits

STEP_S, REPORT_S, BEAT_S, TICK_S = 5.0, 15.0, 30.0, 60.0
BOOT_S, LOAD_S, STOP_S = 25.0, 10.0, 15.0
IDLE_S, GRACE_S, HARD_MAX_S = 600.0, 300.0, 7200.0
EXCUSE_S = 150.0
"""After a fault: a lease that nobody releases (30 s), and two ticks."""
DEADMAN = Limits(silent_s=900.0, hard_max_s=HARD_MAX_S)
