-- The journal of one engine: what its rooms know. Version 1 (PRAGMA user_version).
-- Nothing here is the truth about bronze or silver: that is in the buckets, and the journal can be rebuilt from them.
-- What grows with every file (hops, outcomes, messages, objects) is kept small by compaction.py; what is counted or
-- looked up while files pass has an index, so that nothing costs more because more is stored.

-- What the bucket room has seen of each object, so that a start finds what changed while nobody watched.
CREATE TABLE objects (
    bucket    TEXT NOT NULL,
    key       TEXT NOT NULL,
    identity  TEXT NOT NULL,     -- inode, size and times of the file: equal means unchanged
    etag      TEXT NOT NULL,
    version   TEXT NOT NULL,
    sequencer TEXT NOT NULL,
    size      INTEGER NOT NULL,  -- bytes
    PRIMARY KEY (bucket, key)
) WITHOUT ROWID;

-- Messages on their way from one room to the next. Written in the transaction of the room that sends,
-- removed in the transaction of the room that accepts: so a crash between the two loses nothing.
CREATE TABLE outbox (
    id       INTEGER PRIMARY KEY,
    source   TEXT NOT NULL,      -- ARN of what sends: the bucket, a rule, a topic
    target   TEXT NOT NULL,      -- ARN of what shall accept: the bus, a topic, a queue
    delivery TEXT NOT NULL,      -- ARN of the rule or subscription it travels by: its retry policy and DLQ
    key      TEXT NOT NULL,
    version  TEXT NOT NULL,
    body     BLOB NOT NULL,
    created  REAL NOT NULL,      -- all times are Unix seconds
    due      REAL NOT NULL
);
CREATE INDEX outbox_due ON outbox (due, id);

-- Every queue, and how many messages it holds: to count them would take longer the more there are. Kept by queue.py.
-- Its ARN stands here alone, because in every message and twice in its indexes it would be most of what is written.
CREATE TABLE queues (
    id       INTEGER PRIMARY KEY,
    arn      TEXT NOT NULL UNIQUE,
    messages INTEGER NOT NULL DEFAULT 0
);

-- Every queue's messages, dead-letter queues included.
CREATE TABLE messages (
    id             INTEGER PRIMARY KEY,
    message_id     TEXT NOT NULL,
    queue          INTEGER NOT NULL,         -- which of the queues
    key            TEXT NOT NULL,
    version        TEXT NOT NULL,
    body           BLOB NOT NULL,
    sent           REAL NOT NULL,
    visible        REAL NOT NULL,            -- when it may be received (again)
    expires        REAL NOT NULL,            -- when its retention ends
    receives       INTEGER NOT NULL DEFAULT 0,
    first_received REAL,
    receipt        TEXT,                     -- the latest receipt handle; an older one is void
    dead_source    TEXT,                     -- ARN of the queue, rule or subscription that gave up on it
    dead_reason    TEXT,
    dead_at        REAL
);
CREATE INDEX messages_visible ON messages (queue, visible);
CREATE INDEX messages_expires ON messages (queue, expires);
CREATE INDEX messages_dead ON messages (queue) WHERE dead_at IS NOT NULL;
-- Ids are random, so an index over all of them would be written all over; they are asked for of the dead only.
CREATE UNIQUE INDEX messages_dead_id ON messages (message_id) WHERE dead_at IS NOT NULL;
-- There is none by key, for the same reason: the trace has one, and its hops know their messages.

-- The trace: what happened to each version of each object, in order.
CREATE TABLE hops (
    id      INTEGER PRIMARY KEY,
    key     TEXT NOT NULL,
    version TEXT NOT NULL,
    at      REAL NOT NULL,
    room    TEXT NOT NULL,       -- bucket, rule, topic, queue, function, dead-letter queue
    name    TEXT NOT NULL,       -- which one
    what    TEXT NOT NULL,       -- what happened there, one word
    detail  TEXT NOT NULL,       -- JSON object
    message INTEGER              -- the row of the message that came to a queue by this, else NULL
);
CREATE INDEX hops_key ON hops (key);

-- The last outcome of each transform on each key.
CREATE TABLE outcomes (
    transform TEXT NOT NULL,
    key       TEXT NOT NULL,
    version   TEXT NOT NULL,
    verdict   TEXT NOT NULL,     -- committed, duplicate, quarantined, gone, failed
    at        REAL NOT NULL,
    detail    TEXT NOT NULL,     -- JSON object: rows, error
    PRIMARY KEY (transform, key)
) WITHOUT ROWID;
CREATE INDEX outcomes_failed ON outcomes (transform, key) WHERE verdict IN ('quarantined', 'failed');
CREATE INDEX outcomes_quarantined ON outcomes (at) WHERE verdict = 'quarantined';

-- Totals since the lake was made, and the last sequencer: small numbers that must survive and cost nothing to read.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
