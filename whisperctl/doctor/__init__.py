"""What is wrong with a stack, and what to do about it: looks only, wakes nothing, changes nothing.

`findings` holds the form and the judgements that need no I/O; `entry` looks from outside as a browser does, `account`
at AWS, `hosts` on the hosts that are awake; `bundle` packs it for whoever is asked for help.
"""
