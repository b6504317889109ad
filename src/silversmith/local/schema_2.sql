-- Version 2: how often a worker has died of each message, since it was sent or redriven.
ALTER TABLE messages ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;
