"""The lossless session without I/O and without a clock; docs/lossless.md is its description.

`site/js/session` is the same for the page, module by module; tests/session/vectors hold both to it.

    ring        captured samples by absolute number
    carrier     which connection carries them, when to connect, what to send: events in, effects out
    connection  one connection's numbers: what was sent, what is confirmed, how much may be on its way
    codes       what a close code means
    transcript  segments to words: each once, final ones for ever
    overlap     what a later connection hears again, cut off by its words
"""
