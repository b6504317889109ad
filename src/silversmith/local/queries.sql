-- Every statement that the services run, by name. journal.py loads them.

-- name: object
SELECT identity, etag, version, sequencer, size FROM objects WHERE bucket = :bucket AND key = :key

-- name: objects_below
SELECT key FROM objects WHERE bucket = :bucket AND key >= :start AND key < :end

-- name: put_object
INSERT INTO objects (bucket, key, identity, etag, version, sequencer, size)
VALUES (:bucket, :key, :identity, :etag, :version, :sequencer, :size)
ON CONFLICT (bucket, key) DO UPDATE SET
    identity = excluded.identity, etag = excluded.etag, version = excluded.version,
    sequencer = excluded.sequencer, size = excluded.size

-- name: forget_object
DELETE FROM objects WHERE bucket = :bucket AND key = :key

-- name: send_on
INSERT INTO outbox (source, target, delivery, key, version, body, created, due) VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: due
SELECT source, target, delivery, key, version, body, created, due, id FROM outbox
WHERE due <= :now ORDER BY due, id LIMIT :most

-- name: delivered
DELETE FROM outbox WHERE id = ?

-- name: next_due
SELECT min(due) FROM outbox

-- name: send
INSERT INTO messages (id, message_id, queue, key, version, body, sent, visible, expires)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: send_dead
INSERT INTO messages (id, message_id, queue, key, version, body, sent, visible, expires, dead_source, dead_reason, dead_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: newest_message
SELECT max(id) FROM messages

-- name: receivable
SELECT id, message_id, key, version, body, sent, receives, first_received FROM messages
WHERE queue = :queue AND visible <= :now AND expires > :now ORDER BY visible, id LIMIT :most

-- name: receive
UPDATE messages SET visible = ?, receives = receives + 1, receipt = ?, first_received = coalesce(first_received, ?)
WHERE id = ?

-- name: delete
DELETE FROM messages WHERE id = ? AND queue = ? AND receipt = ?

-- name: received
SELECT id FROM messages WHERE id = :id AND queue = :queue AND receipt = :receipt

-- name: change_visibility
UPDATE messages SET visible = :visible WHERE id = :id AND queue = :queue AND receipt = :receipt

-- name: move_to_dlq
UPDATE messages SET queue = (SELECT id FROM queues WHERE arn = :dead_letter), visible = :now, receives = 0,
    deaths = 0, first_received = NULL, receipt = NULL, expires = :expires,
    dead_source = :source, dead_reason = :reason, dead_at = :now
WHERE id = :id
RETURNING key, version

-- name: died
UPDATE messages SET deaths = deaths + 1 WHERE id = :id AND queue = :queue AND receipt = :receipt RETURNING deaths

-- name: release_all
UPDATE messages SET visible = :now WHERE queue = :queue AND visible > :now AND receipt IS NOT NULL

-- name: expire
DELETE FROM messages WHERE id IN (
    SELECT id FROM messages
    WHERE queue = (SELECT id FROM queues WHERE arn = :queue) AND expires <= :now
    ORDER BY expires LIMIT :most
) RETURNING key, version

-- name: next_visible
SELECT min(visible) FROM messages WHERE queue = :queue

-- name: depth
SELECT
    messages,
    (SELECT count(*) FROM messages WHERE queue = queues.id AND visible > :now),
    (SELECT sent FROM messages WHERE queue = queues.id ORDER BY expires LIMIT 1)
FROM queues WHERE arn = :queue

-- name: add_to_depth
UPDATE queues SET messages = messages + :by WHERE arn = :queue

-- name: count_depths
UPDATE queues SET messages = (SELECT count(*) FROM messages WHERE queue = queues.id)

-- name: hop
INSERT INTO hops (key, version, at, room, name, what, detail, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: hops
SELECT id, key, version, at, room, name, what, detail FROM hops WHERE key = :key ORDER BY id

-- name: hops_after
SELECT id, key, version, at, room, name, what, detail FROM hops WHERE id > :after ORDER BY id LIMIT :most

-- name: put_outcome
INSERT INTO outcomes (transform, key, version, verdict, at, detail)
VALUES (:transform, :key, :version, :verdict, :at, :detail)
ON CONFLICT (transform, key) DO UPDATE SET
    version = excluded.version, verdict = excluded.verdict, at = excluded.at, detail = excluded.detail

-- name: outcome
SELECT verdict, version, at, detail FROM outcomes WHERE transform = :transform AND key = :key

-- name: committed
SELECT detail FROM outcomes WHERE transform = :transform AND verdict = 'committed' LIMIT :most

-- name: done_since
SELECT 1 FROM outcomes JOIN objects ON objects.bucket = :bucket AND objects.key = outcomes.key
WHERE outcomes.transform = :transform AND outcomes.key = :key AND outcomes.version = objects.version
    AND outcomes.verdict IN ('committed', 'duplicate') AND outcomes.at > :since

-- name: failed_outcomes
SELECT transform, key, version, verdict, at, detail FROM outcomes
WHERE verdict IN ('quarantined', 'failed') AND (transform, key) > (:transform, :key)
ORDER BY transform, key LIMIT :most

-- name: dead_messages
SELECT id, message_id, :queue, key, version, body, sent, dead_source, dead_reason, dead_at FROM messages
WHERE queue = (SELECT id FROM queues WHERE arn = :queue) AND dead_at IS NOT NULL AND id > :after ORDER BY id LIMIT :most

-- name: count
INSERT INTO counters (name, value) VALUES (:name, :by)
ON CONFLICT (name) DO UPDATE SET value = value + excluded.value

-- name: set_counter
INSERT INTO counters (name, value) VALUES (:name, :value)
ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- name: counter
SELECT value FROM counters WHERE name = :name

-- name: counters
SELECT name, value FROM counters ORDER BY name

-- name: unreceive
UPDATE messages SET visible = :now, receives = receives - 1,
    first_received = CASE WHEN receives > 1 THEN first_received END
WHERE id = :id AND queue = :queue AND receipt = :receipt

-- name: hasten
UPDATE messages SET visible = :now WHERE queue = :queue AND visible > :now

-- name: visible
SELECT count(*), coalesce(sum(length(body)), 0) FROM (
    SELECT body FROM messages WHERE queue = :queue AND visible <= :now LIMIT :most
)

-- name: failures_after
SELECT key, name, what, detail FROM hops
WHERE id > :after AND room = 'function' AND what IN ('failed', 'quarantined') ORDER BY id LIMIT :most

-- name: quarantined_since
SELECT count(*) FROM outcomes WHERE verdict = 'quarantined' AND at >= :since

-- name: dead_since
SELECT count(*) FROM messages WHERE queue = (SELECT id FROM queues WHERE arn = :queue) AND dead_at >= :since

-- name: recent_hops
SELECT version, at, room, name, what, detail FROM hops WHERE key = :key ORDER BY id DESC LIMIT :most

-- name: last_failure
SELECT detail FROM hops
WHERE key = :key AND version = :version AND room = 'function' AND name = :name AND what = 'failed'
ORDER BY id DESC LIMIT 1

-- name: quarantined_of
-- The IN says nothing new: it is what lets SQLite use that index.
SELECT count(*) FROM outcomes INDEXED BY outcomes_failed
WHERE verdict IN ('quarantined', 'failed') AND verdict = 'quarantined' AND transform = :transform

-- name: quarantined_lately
SELECT transform, key, at, detail FROM outcomes
WHERE verdict = 'quarantined' AND at >= :since ORDER BY at, transform, key LIMIT :most

-- name: on_the_way
SELECT count(*) FROM outbox

-- name: queues_in_use
SELECT arn FROM queues WHERE EXISTS (SELECT 1 FROM messages WHERE queue = queues.id)

-- name: queue
SELECT id FROM queues WHERE arn = :arn

-- name: put_queue
INSERT INTO queues (arn) VALUES (:arn) ON CONFLICT (arn) DO NOTHING

-- name: queued_for
-- Every message has left its row in the trace, by the hop that brought it to its queue; both are kept for 14 days.
SELECT queues.arn, messages.key, messages.body
FROM hops CROSS JOIN messages ON messages.id = hops.message AND messages.key = hops.key
    CROSS JOIN queues ON queues.id = messages.queue
WHERE hops.key IN (SELECT value FROM json_each(:keys)) AND queues.arn IN (SELECT value FROM json_each(:queues))

-- name: in_outbox_for
SELECT target, key, body FROM outbox WHERE key IN (SELECT value FROM json_each(:keys))

-- name: dead_message
SELECT (SELECT arn FROM queues WHERE id = messages.queue), dead_source FROM messages
WHERE message_id = :message_id AND dead_at IS NOT NULL

-- name: redrive
UPDATE messages SET queue = (SELECT id FROM queues WHERE arn = :queue), message_id = :new_id,
    sent = :now, visible = :visible, expires = :expires,
    receives = 0, first_received = NULL, receipt = NULL, dead_source = NULL, dead_reason = NULL, dead_at = NULL
WHERE message_id = :message_id AND dead_at IS NOT NULL
RETURNING key, version, id

-- name: take_dead
DELETE FROM messages WHERE message_id = :message_id AND dead_at IS NOT NULL RETURNING key, version, body

-- name: oldest_hops
DELETE FROM hops WHERE id IN (
    SELECT id FROM (SELECT id, at FROM hops ORDER BY id LIMIT :most) WHERE at < :before
)

-- name: newest_hop
SELECT max(id) FROM hops

-- name: crowded
SELECT key FROM hops AS hop WHERE id > :after AND id <= :upto AND EXISTS (
    SELECT 1 FROM hops WHERE key = hop.key ORDER BY id DESC LIMIT 1 OFFSET :keep
)

-- name: trim_hops
DELETE FROM hops WHERE id IN (
    SELECT id FROM hops WHERE key = :key AND id <= (
        SELECT id FROM hops WHERE key = :key ORDER BY id DESC LIMIT 1 OFFSET :keep
    ) ORDER BY id LIMIT :most
)

-- name: outcomes_after
SELECT transform, key, at FROM outcomes WHERE (transform, key) > (:transform, :key)
ORDER BY transform, key LIMIT :most

-- name: forget_outcome
DELETE FROM outcomes WHERE transform = :transform AND key = :key

-- name: objects_after
SELECT key FROM objects WHERE bucket = :bucket AND key > :after ORDER BY key LIMIT :most

-- name: next_hop
SELECT id, at FROM hops WHERE id > :after ORDER BY id LIMIT 1

-- name: last_commit
SELECT at FROM hops WHERE room = 'function' AND what = 'committed' AND name = :name ORDER BY id DESC LIMIT 1

-- name: newest_time
SELECT at FROM hops ORDER BY id DESC LIMIT 1

-- name: move_messages
UPDATE messages SET sent = sent + :jump, visible = visible + :jump, expires = expires + :jump

-- name: move_outbox
UPDATE outbox SET created = created + :jump, due = due + :jump

-- name: hops_of
SELECT count(*) FROM hops WHERE key = :key

-- name: forget_hops
DELETE FROM hops WHERE key = ?

-- name: outcomes_of
SELECT count(*) FROM outcomes WHERE transform = :transform AND key = :key

-- name: outcome_transforms
SELECT DISTINCT transform FROM outcomes

-- name: all_messages
SELECT messages.id, queues.arn, key, body, receipt, visible, dead_at FROM messages JOIN queues ON queues.id = messages.queue

-- name: all_on_the_way
SELECT id, key, body FROM outbox

-- name: forget_message
DELETE FROM messages WHERE id = ?

-- name: begin_of_time
-- Backward from the newest hop of the key: it is the last landing or resending of the version.
SELECT at FROM hops
WHERE key = :key AND version = :version AND (
    room = 'bucket' OR room = 'operations' AND json_extract(detail, '$.to') IN ('bus', :queue)
) ORDER BY id DESC LIMIT 1

-- name: add_tally
INSERT INTO tallies (width, slot, transform, name, value) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (width, slot, transform, name) DO UPDATE SET value = value + excluded.value

-- name: tallies
SELECT slot, transform, name, value FROM tallies WHERE width = :width AND slot >= :since

-- name: old_tallies
DELETE FROM tallies WHERE (width, slot, transform, name) IN (
    SELECT width, slot, transform, name FROM tallies WHERE width = :width AND slot < :before LIMIT :most
)
