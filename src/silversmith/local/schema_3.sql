-- Version 3: what ended in each slot of time. tallies.py says how wide slots are, and what the names mean.
CREATE TABLE tallies (
    width     INTEGER NOT NULL,  -- seconds
    slot      INTEGER NOT NULL,  -- the time in Unix seconds, divided by the width
    transform TEXT NOT NULL,
    name      TEXT NOT NULL,
    value     INTEGER NOT NULL,
    PRIMARY KEY (width, slot, transform, name)
) WITHOUT ROWID;
