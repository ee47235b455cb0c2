"""Sessions in the formats of others: items of the timeline in, bytes out, one item after the other. Pure.

Each format is an `Exporter` (see `formats`); none keeps more than a bounded number of items in mind, so that a session
of any length is told. What a format has no words for stands in it under names of ours, and is never left out: the one
exception, which is said where it happens, is the data of a COPY: it is counted, and the records have it.
"""
