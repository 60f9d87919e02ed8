-- The journal of one job, as all migrations together leave it. To be read: only migrations/ is ever executed, and a
-- test proves that both lead to the same tables. Times are milliseconds since the epoch, 0 for "not yet"; texts are ''
-- where there is nothing. Nothing here needs more than SQLite 3.24, which old distributions still have.
--
-- PRAGMA application_id = 0x61637079 ('acpy') tells a journal from other databases, user_version counts the migrations.

-- The job: exactly one row.
CREATE TABLE job (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    source        TEXT    NOT NULL,             -- URLs without credentials: the job's identity
    destination   TEXT    NOT NULL,
    pass_number   INTEGER NOT NULL DEFAULT 0,   -- a pass lists the whole selection once; 0 before the first
    selection     TEXT    NOT NULL DEFAULT '',  -- what the present pass selects; another text is another pass
    started_at    INTEGER NOT NULL DEFAULT 0,   -- of the present pass
    listing_done  INTEGER NOT NULL DEFAULT 0,   -- 0 | 1
    finished_at   INTEGER NOT NULL DEFAULT 0,
    listed_files  INTEGER NOT NULL DEFAULT 0,   -- met in this pass so far
    listed_bytes  INTEGER NOT NULL DEFAULT 0
);

-- Every directory met, each once. The files refer to it, so a path is stored once and not once per file.
CREATE TABLE directories (
    id          INTEGER PRIMARY KEY,
    path        TEXT    NOT NULL UNIQUE,        -- relative to the source root, '' is the root
    state       INTEGER NOT NULL DEFAULT 0,     -- 0 to list, 1 listed, 3 not met in this pass
    after       TEXT    NOT NULL DEFAULT '',    -- the cursor: where its listing goes on
    first_pass  INTEGER NOT NULL                -- the pass that met it first: in that pass it has no older rows
);
CREATE INDEX directories_to_list ON directories (id) WHERE state = 0;

-- Every file met. The row's path is directories.path + '/' + name. An empty directory is a row with the name '' in the
-- directory itself, so that its path ends in '/': no file can have that name.
-- AUTOINCREMENT: an id must never come back, or a reader that goes by "id > last" would miss the new row.
CREATE TABLE files (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    directory          INTEGER NOT NULL REFERENCES directories (id),
    name               TEXT    NOT NULL,            -- compared byte by byte: NFC and NFD are two files
    length             INTEGER NOT NULL,            -- these three are the version
    modification_time  INTEGER NOT NULL,
    file_id            INTEGER NOT NULL,
    block_size         INTEGER NOT NULL,
    state              INTEGER NOT NULL DEFAULT 0,  -- model.FileState: 0 pending, 1 done, 2 failed, 3 unseen
    method             TEXT    NOT NULL DEFAULT '', -- done: the evidence, see model.Evidence
    source_checksum    TEXT    NOT NULL DEFAULT '',
    object_checksum    TEXT    NOT NULL DEFAULT '',
    etag               TEXT    NOT NULL DEFAULT '',
    done_at            INTEGER NOT NULL DEFAULT 0,
    error_class        TEXT    NOT NULL DEFAULT '', -- failed: why
    error              TEXT    NOT NULL DEFAULT '',
    hint               TEXT    NOT NULL DEFAULT '',
    UNIQUE (directory, name)
);
-- The work that is left, in id order within a state. A query must repeat "state <> 1" or SQLite may not use it.
CREATE INDEX files_not_done ON files (state) WHERE state <> 1;

-- A multipart upload that has begun, at most one per file, and the version it was begun for.
CREATE TABLE uploads (
    file               INTEGER PRIMARY KEY REFERENCES files (id) ON DELETE CASCADE,
    upload_id          TEXT    NOT NULL,
    part_size          INTEGER NOT NULL,
    length             INTEGER NOT NULL,
    modification_time  INTEGER NOT NULL,
    file_id            INTEGER NOT NULL
);

-- The finished parts of those uploads, see model.PartReceipt.
CREATE TABLE parts (
    file    INTEGER NOT NULL REFERENCES uploads (file) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    offset  INTEGER NOT NULL,
    size    INTEGER NOT NULL,
    etag    TEXT    NOT NULL,
    crc32c  INTEGER NOT NULL,
    blocks  BLOB    NOT NULL,                       -- MessagePack of tuple[BlockDigest, ...]
    PRIMARY KEY (file, number)
) WITHOUT ROWID;

-- Files (not the markers of empty directories) and bytes per state, kept by triggers in the transaction of the change: a status question costs four rows
-- instead of a walk over millions, and no code path can forget to count.
CREATE TABLE counts (
    state  INTEGER PRIMARY KEY,
    files  INTEGER NOT NULL DEFAULT 0,
    bytes  INTEGER NOT NULL DEFAULT 0
);
INSERT INTO counts (state) VALUES (0), (1), (2), (3);

CREATE TRIGGER count_insert AFTER INSERT ON files WHEN NEW.name <> '' BEGIN
    UPDATE counts SET files = files + 1, bytes = bytes + NEW.length WHERE state = NEW.state;
END;
CREATE TRIGGER count_update AFTER UPDATE OF state, length ON files
WHEN NEW.name <> '' AND (OLD.state <> NEW.state OR OLD.length <> NEW.length) BEGIN
    UPDATE counts SET files = files - 1, bytes = bytes - OLD.length WHERE state = OLD.state;
    UPDATE counts SET files = files + 1, bytes = bytes + NEW.length WHERE state = NEW.state;
END;
CREATE TRIGGER count_delete AFTER DELETE ON files WHEN OLD.name <> '' BEGIN
    UPDATE counts SET files = files - 1, bytes = bytes - OLD.length WHERE state = OLD.state;
END;
