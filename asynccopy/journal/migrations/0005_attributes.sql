-- What a file is copied with besides its bytes. What the table means is told in ../schema.sql. No file's row is
-- rewritten: of files listed by an older release the attributes are not known.

CREATE TABLE attributes (
    id           INTEGER PRIMARY KEY,
    owner        TEXT    NOT NULL,
    "group"      TEXT    NOT NULL,
    permission   INTEGER NOT NULL,
    replication  INTEGER NOT NULL,
    UNIQUE (owner, "group", permission, replication)
);
ALTER TABLE files ADD COLUMN attributes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE files ADD COLUMN access_time INTEGER NOT NULL DEFAULT 0;
