"""A release on this host: fetched, staged, activated, verified, put back, pruned. One step a run.

Nothing but the standard library, the same on the GPU host and on the edge: a blank host has only python3 and curl.
SSM's document fetches these files as one archive by its hash and runs it (whisperctl/releases/archive.py makes it,
release.py is its main program); see docs/releases.md.

    HOME/releases/<release>/   bootstrap/ wheels/ models/ (edge: bootstrap/ site/ caddy/), manifest.json written last
    HOME/current               -> releases/<release>, switched by the release's own install.sh
    HOME/state.json            what was proved good, what was before it, what is on trial
    HOME is PREFIX/opt/whisperlive, on the edge PREFIX/opt/edge

Every step may run twice, or again after the power failed in its middle: a lock keeps runs apart, files are complete
or not there, and what is done already is left alone. A release is on trial from `activate` to the end of `verify`;
when either fails, the last good one is put back here and now, without asking anybody.
"""
