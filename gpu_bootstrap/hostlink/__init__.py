"""The host link: this host reports to the control plane every few seconds and obeys its answer.

Nothing but the standard library, the same program on the GPU host and on the edge (`LINK_ROLE`). It never ends by
itself: a control plane that cannot be reached, or answers nonsense, changes nothing on the host, and is asked again
with growing pauses.

Report and answer are those of `POST /v1/hosts/{instance_id}/report`. On the GPU host the answer is left in the
control file for the launcher, with `received_at` (this host's epoch seconds) added; on the edge its upstreams are
put in force by set-upstream.sh.

The GPU host has a dead man's switch, so that a broken control plane cannot burn money. It powers the host off
(1) after LINK_DEADMAN_MINUTES in which no report was answered and nothing streamed, counted from boot on, and
(2) past the hard maximum, `stay_until` of the answers or LINK_HARD_MAX_MINUTES since boot, whichever is first,
whatever streams: it leaves the launcher a drain, and powers off when that is over. Only an answer that can be
obeyed counts; 401, 500 or nonsense is none. The loop looks all the time. That a hung or crashed loop be covered too,
a systemd timer runs a second look every minute, with the same environment as the loop, as a user that may power off:

    ExecStart=/usr/bin/python3 /opt/whisperlive/current/bootstrap/link.py --deadman

It looks once, acts if it must, and exits 0; both share their memory in LINK_DEADMAN_FILE, which must lie in a
directory that outlives the loop's unit (RuntimeDirectoryPreserve=yes) and that both may write.
"""

from __future__ import annotations
