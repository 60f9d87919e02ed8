-- The first release. What the tables mean is told in ../schema.sql.

CREATE TABLE job (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    source        TEXT    NOT NULL,
    destination   TEXT    NOT NULL,
    pass_number   INTEGER NOT NULL DEFAULT 0,
    selection     TEXT    NOT NULL DEFAULT '',
    started_at    INTEGER NOT NULL DEFAULT 0,
    listing_done  INTEGER NOT NULL DEFAULT 0,
    finished_at   INTEGER NOT NULL DEFAULT 0,
    listed_files  INTEGER NOT NULL DEFAULT 0,
    listed_bytes  INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE directories (
    id          INTEGER PRIMARY KEY,
    path        TEXT    NOT NULL UNIQUE,
    state       INTEGER NOT NULL DEFAULT 0,
    after       TEXT    NOT NULL DEFAULT '',
    first_pass  INTEGER NOT NULL
);
CREATE INDEX directories_to_list ON directories (id) WHERE state = 0;

CREATE TABLE files (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    directory          INTEGER NOT NULL REFERENCES directories (id),
    name               TEXT    NOT NULL,
    length             INTEGER NOT NULL,
    modification_time  INTEGER NOT NULL,
    file_id            INTEGER NOT NULL,
    block_size         INTEGER NOT NULL,
    state              INTEGER NOT NULL DEFAULT 0,
    method             TEXT    NOT NULL DEFAULT '',
    source_checksum    TEXT    NOT NULL DEFAULT '',
    object_checksum    TEXT    NOT NULL DEFAULT '',
    etag               TEXT    NOT NULL DEFAULT '',
    done_at            INTEGER NOT NULL DEFAULT 0,
    error_class        TEXT    NOT NULL DEFAULT '',
    error              TEXT    NOT NULL DEFAULT '',
    hint               TEXT    NOT NULL DEFAULT '',
    UNIQUE (directory, name)
);
CREATE INDEX files_not_done ON files (state) WHERE state <> 1;

CREATE TABLE uploads (
    file               INTEGER PRIMARY KEY REFERENCES files (id) ON DELETE CASCADE,
    upload_id          TEXT    NOT NULL,
    part_size          INTEGER NOT NULL,
    length             INTEGER NOT NULL,
    modification_time  INTEGER NOT NULL,
    file_id            INTEGER NOT NULL
);

CREATE TABLE parts (
    file    INTEGER NOT NULL REFERENCES uploads (file) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    offset  INTEGER NOT NULL,
    size    INTEGER NOT NULL,
    etag    TEXT    NOT NULL,
    crc32c  INTEGER NOT NULL,
    blocks  BLOB    NOT NULL,
    PRIMARY KEY (file, number)
) WITHOUT ROWID;

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
