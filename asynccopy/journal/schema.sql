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
    pass_number   INTEGER NOT NULL DEFAULT 0,   -- a pass is one look at the source; 0 before the first
    selection     TEXT    NOT NULL DEFAULT '',  -- what the present pass selects; another text is another pass
    started_at    INTEGER NOT NULL DEFAULT 0,   -- of the present pass
    listing_done  INTEGER NOT NULL DEFAULT 0,   -- 0 | 1
    finished_at   INTEGER NOT NULL DEFAULT 0,
    listed_files  INTEGER NOT NULL DEFAULT 0,   -- met in this pass so far
    listed_bytes  INTEGER NOT NULL DEFAULT 0,
    kind          TEXT    NOT NULL DEFAULT 'full',  -- of the present pass: full, quick, snapshot
    listed_directories  INTEGER NOT NULL DEFAULT 0, -- really listed in this pass; a quick one passes over others
    settled_for   TEXT    NOT NULL DEFAULT ''   -- the selection for which directories are settled
);

-- Every directory met, each once. The files refer to it, so a path is stored once and not once per file.
CREATE TABLE directories (
    id          INTEGER PRIMARY KEY,
    path        TEXT    NOT NULL UNIQUE,        -- relative to the source root, '' is the root
    state       INTEGER NOT NULL DEFAULT 0,     -- 0 to list, 1 not, 3 gone, but one of its files has an upload to abort
    after       TEXT    NOT NULL DEFAULT '',    -- the cursor: where its listing goes on
    first_pass  INTEGER NOT NULL,               -- the pass that met it first: in that pass it has no older rows
    pass        INTEGER NOT NULL DEFAULT 0,     -- the last pass that had it listed
    modification_time  INTEGER NOT NULL DEFAULT 0,  -- the directory's own, as its parent's listing showed it, and its
    file_id     INTEGER NOT NULL DEFAULT 0,         -- inode
    settled     INTEGER NOT NULL DEFAULT 0,     -- 0 this time is new, 1 it was met again, 2 and then all was listed
    leaf        INTEGER NOT NULL DEFAULT 0,     -- 0 | 1: its last listing showed no subdirectory that is selected
    files       INTEGER NOT NULL DEFAULT 0,     -- selected in its last listing
    bytes       INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX directories_to_list ON directories (id) WHERE state = 0;
CREATE INDEX directories_gone ON directories (id) WHERE state = 3;

-- What the pages of a directory that is being listed again have shown so far, page by page: at its last page all else
-- is gone. Only directories of several pages are here, and only while they are being listed.
CREATE TABLE met (
    directory       INTEGER NOT NULL REFERENCES directories (id) ON DELETE CASCADE,
    files           BLOB    NOT NULL,           -- MessagePack of the ids
    subdirectories  BLOB    NOT NULL            -- MessagePack of the paths
);
CREATE INDEX met_directory ON met (directory);

-- Every file that the source has, as far as we looked. The row's path is directories.path + '/' + name. An empty
-- directory is a row with the name '' in the directory itself, so that its path ends in '/': no file can have that name.
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
    etag               TEXT    NOT NULL DEFAULT '', -- also of the former version's object, until the new one is done
    done_at            INTEGER NOT NULL DEFAULT 0,
    error_class        TEXT    NOT NULL DEFAULT '', -- failed: why
    error              TEXT    NOT NULL DEFAULT '',
    hint               TEXT    NOT NULL DEFAULT '',
    attributes         INTEGER NOT NULL DEFAULT 0,  -- until it is done; 0: not known
    access_time        INTEGER NOT NULL DEFAULT 0,  -- likewise
    UNIQUE (directory, name)
);
-- Where files are copied in another order than this, there is an index more: see ORDERS in reading.py.
-- The work that is left, in id order within a state. A query must repeat "state <> 1" or SQLite may not use it.
CREATE INDEX files_not_done ON files (state) WHERE state <> 1;

-- What files that are to be copied have besides bytes and version, each combination once: there are a few hundred. No row
-- is ever removed.
CREATE TABLE attributes (
    id           INTEGER PRIMARY KEY,
    owner        TEXT    NOT NULL,
    "group"      TEXT    NOT NULL,
    permission   INTEGER NOT NULL,                  -- the mode bits
    replication  INTEGER NOT NULL,
    UNIQUE (owner, "group", permission, replication)
);

-- Files that are done and have been left alone for a while, thousands to a row (a pack), for a seventh of the space: see
-- columns.py for the bytes and packed.py for what becomes of them. A file is in files or in one pack, never in both, and
-- keeps its id. A pack holds names from "first" on, up to the next pack of its directory; the first pack's is ''.
CREATE TABLE packed (
    id         INTEGER PRIMARY KEY,
    directory  INTEGER NOT NULL REFERENCES directories (id),
    first      TEXT    NOT NULL,
    files      INTEGER NOT NULL,                    -- how many, and their lengths in all
    bytes      INTEGER NOT NULL,
    versions   BLOB    NOT NULL,                    -- what a listing is compared with
    proofs     BLOB    NOT NULL,                    -- the evidence
    UNIQUE (directory, first)
);

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

-- Files that the source no longer has, as they were last known: what was renamed is found here, and what is to be
-- deleted. A path may be here and in files at once: it lives again. method '': this version was never proven; then the
-- ETag is a former version's, or '' when no object of this file is known (an attempt may have left one all the same).
CREATE TABLE gone (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    path               TEXT    NOT NULL,            -- ends in '/' for the marker of an empty directory
    length             INTEGER NOT NULL,
    modification_time  INTEGER NOT NULL,
    file_id            INTEGER NOT NULL,
    method             TEXT    NOT NULL,
    source_checksum    TEXT    NOT NULL,
    object_checksum    TEXT    NOT NULL,
    etag               TEXT    NOT NULL,
    gone_at            INTEGER NOT NULL,
    done_at            INTEGER NOT NULL DEFAULT 0   -- 0 also where an older release saw it go
);
CREATE INDEX gone_file_id ON gone (file_id);
CREATE INDEX gone_path ON gone (path);

-- What files were before, the newest million rows of all: a life that was proven and whose evidence is void (changed:
-- the source has another version; reopened: the version is the same), a file that the source has no longer (gone) and
-- whose object then was deleted or belongs to another (forgotten), and each failure that is not just the last one again.
-- A file that is copied once leaves no row, nor does packing: that deletes and inserts whole rows of files, which no
-- trigger of this table watches. A file that is still being written has not failed.
CREATE TABLE former (
    id                 INTEGER PRIMARY KEY,
    path               TEXT    NOT NULL,            -- as in gone
    length             INTEGER NOT NULL,
    modification_time  INTEGER NOT NULL,
    file_id            INTEGER NOT NULL,
    method             TEXT    NOT NULL,
    source_checksum    TEXT    NOT NULL,
    object_checksum    TEXT    NOT NULL,
    etag               TEXT    NOT NULL,
    done_at            INTEGER NOT NULL,
    until              INTEGER NOT NULL,            -- when this was over
    why                TEXT    NOT NULL,            -- changed, reopened, gone, forgotten, failed
    error_class        TEXT    NOT NULL DEFAULT '', -- failed: why
    error              TEXT    NOT NULL DEFAULT ''
);
CREATE INDEX former_path ON former (path);

-- What must be remembered beyond a restart: intents (paused, a limit), the watermark.
CREATE TABLE facts (
    key    TEXT PRIMARY KEY,
    value  TEXT NOT NULL
) WITHOUT ROWID;

-- The last thousand passes, as they ended.
CREATE TABLE passes (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    kind         TEXT    NOT NULL,
    started_at   INTEGER NOT NULL,
    finished_at  INTEGER NOT NULL,
    outcome      TEXT    NOT NULL,
    directories  INTEGER NOT NULL,
    files        INTEGER NOT NULL,
    copied       INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    failed       INTEGER NOT NULL,
    deleted      INTEGER NOT NULL,
    requests     INTEGER NOT NULL
);

-- Files (not the markers of empty directories) and bytes per state, kept by triggers in the transaction of the change:
-- a status question costs a few rows instead of a walk over millions, and no code path can forget to count. Beside
-- the states: 4 gone, as far as an object is known; 5 failed because they are still being written.
CREATE TABLE counts (
    state  INTEGER PRIMARY KEY,
    files  INTEGER NOT NULL DEFAULT 0,
    bytes  INTEGER NOT NULL DEFAULT 0
);
INSERT INTO counts (state) VALUES (0), (1), (2), (3), (4), (5);

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
CREATE TRIGGER count_gone AFTER INSERT ON gone
WHEN (NEW.method <> '' OR NEW.etag <> '') AND substr(NEW.path, -1) <> '/' BEGIN
    UPDATE counts SET files = files + 1, bytes = bytes + NEW.length WHERE state = 4;
END;
CREATE TRIGGER count_forgotten AFTER DELETE ON gone
WHEN (OLD.method <> '' OR OLD.etag <> '') AND substr(OLD.path, -1) <> '/' BEGIN
    UPDATE counts SET files = files - 1, bytes = bytes - OLD.length WHERE state = 4;
END;
CREATE TRIGGER count_open AFTER UPDATE OF state, length, error_class ON files
WHEN NEW.state = 2 AND NEW.error_class = 'StillOpen' AND NEW.name <> '' BEGIN
    UPDATE counts SET files = files + 1, bytes = bytes + NEW.length WHERE state = 5;
END;
CREATE TRIGGER count_closed AFTER UPDATE OF state, length, error_class ON files
WHEN OLD.state = 2 AND OLD.error_class = 'StillOpen' AND OLD.name <> '' BEGIN
    UPDATE counts SET files = files - 1, bytes = bytes - OLD.length WHERE state = 5;
END;
CREATE TRIGGER count_open_delete AFTER DELETE ON files
WHEN OLD.state = 2 AND OLD.error_class = 'StillOpen' AND OLD.name <> '' BEGIN
    UPDATE counts SET files = files - 1, bytes = bytes - OLD.length WHERE state = 5;
END;
CREATE TRIGGER count_packed AFTER INSERT ON packed BEGIN
    UPDATE counts SET files = files + NEW.files, bytes = bytes + NEW.bytes WHERE state = 1;
END;
CREATE TRIGGER count_unpacked AFTER DELETE ON packed BEGIN
    UPDATE counts SET files = files - OLD.files, bytes = bytes - OLD.bytes WHERE state = 1;
END;

-- In triggers as well, so that no code path can forget to enter a life or to keep the table bounded.
CREATE TRIGGER former_void AFTER UPDATE OF method ON files WHEN OLD.method <> '' AND NEW.method = '' BEGIN
    INSERT INTO former (path, length, modification_time, file_id, method, source_checksum, object_checksum, etag,
        done_at, until, why)
    SELECT CASE path WHEN '' THEN OLD.name ELSE path || '/' || OLD.name END, OLD.length, OLD.modification_time,
        OLD.file_id, OLD.method, OLD.source_checksum, OLD.object_checksum, OLD.etag, OLD.done_at,
        CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER),
        CASE WHEN (OLD.length, OLD.modification_time, OLD.file_id)
            = (NEW.length, NEW.modification_time, NEW.file_id) THEN 'reopened' ELSE 'changed' END
    FROM directories WHERE id = OLD.directory;
END;
CREATE TRIGGER former_failed AFTER UPDATE OF state, error_class, error ON files
WHEN NEW.state = 2 AND NEW.error_class <> 'StillOpen' BEGIN
    INSERT INTO former (path, length, modification_time, file_id, method, source_checksum, object_checksum, etag,
        done_at, until, why, error_class, error)
    SELECT f.path, NEW.length, NEW.modification_time, NEW.file_id, NEW.method, NEW.source_checksum,
        NEW.object_checksum, NEW.etag, NEW.done_at,
        CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), 'failed', NEW.error_class, NEW.error
    FROM (
        SELECT CASE path WHEN '' THEN NEW.name ELSE path || '/' || NEW.name END AS path
        FROM directories WHERE id = NEW.directory
    ) AS f
    WHERE NOT EXISTS (
        SELECT 1 FROM former WHERE id = (SELECT max(id) FROM former WHERE path = f.path)
            AND error_class = NEW.error_class AND error = NEW.error
    );
END;
CREATE TRIGGER former_gone AFTER INSERT ON gone WHEN NEW.method <> '' OR NEW.etag <> '' BEGIN
    INSERT INTO former (path, length, modification_time, file_id, method, source_checksum, object_checksum, etag,
        done_at, until, why)
    VALUES (NEW.path, NEW.length, NEW.modification_time, NEW.file_id, NEW.method, NEW.source_checksum,
        NEW.object_checksum, NEW.etag, NEW.done_at, NEW.gone_at, 'gone');
END;
CREATE TRIGGER former_forgotten AFTER DELETE ON gone WHEN OLD.method <> '' OR OLD.etag <> '' BEGIN
    INSERT INTO former (path, length, modification_time, file_id, method, source_checksum, object_checksum, etag,
        done_at, until, why)
    VALUES (OLD.path, OLD.length, OLD.modification_time, OLD.file_id, OLD.method, OLD.source_checksum,
        OLD.object_checksum, OLD.etag, OLD.done_at,
        CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), 'forgotten');
END;
CREATE TRIGGER former_bound AFTER INSERT ON former BEGIN
    DELETE FROM former WHERE id <= NEW.id - 1000000;
END;
