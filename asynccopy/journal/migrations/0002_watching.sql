-- For mirrors that are watched. What the tables mean is told in ../schema.sql. No file's row is rewritten.

ALTER TABLE job ADD COLUMN kind TEXT NOT NULL DEFAULT 'full';
ALTER TABLE job ADD COLUMN listed_directories INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN settled_for TEXT NOT NULL DEFAULT '';

-- pass 0: a directory whose listing an older release began is not compared with its rows before the next pass.
ALTER TABLE directories ADD COLUMN pass INTEGER NOT NULL DEFAULT 0;
ALTER TABLE directories ADD COLUMN modification_time INTEGER NOT NULL DEFAULT 0;
ALTER TABLE directories ADD COLUMN file_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE directories ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE directories ADD COLUMN leaf INTEGER NOT NULL DEFAULT 0;
ALTER TABLE directories ADD COLUMN files INTEGER NOT NULL DEFAULT 0;
ALTER TABLE directories ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE directories SET state = 1 WHERE state = 3;
CREATE INDEX directories_gone ON directories (id) WHERE state = 3;

CREATE TABLE met (
    directory       INTEGER NOT NULL REFERENCES directories (id) ON DELETE CASCADE,
    files           BLOB    NOT NULL,
    subdirectories  BLOB    NOT NULL
);
CREATE INDEX met_directory ON met (directory);

CREATE TABLE gone (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    path               TEXT    NOT NULL,
    length             INTEGER NOT NULL,
    modification_time  INTEGER NOT NULL,
    file_id            INTEGER NOT NULL,
    method             TEXT    NOT NULL,
    source_checksum    TEXT    NOT NULL,
    object_checksum    TEXT    NOT NULL,
    etag               TEXT    NOT NULL,
    gone_at            INTEGER NOT NULL
);
CREATE INDEX gone_file_id ON gone (file_id);
CREATE INDEX gone_path ON gone (path);

CREATE TABLE facts (
    key    TEXT PRIMARY KEY,
    value  TEXT NOT NULL
) WITHOUT ROWID;

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

INSERT INTO counts (state) VALUES (4), (5);

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
