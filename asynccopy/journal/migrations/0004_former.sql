-- The former lives of files. What the table means is told in ../schema.sql. Nothing is filled in for what was before:
-- ten million rows take no longer than ten.

ALTER TABLE gone ADD COLUMN done_at INTEGER NOT NULL DEFAULT 0;

CREATE TABLE former (
    id                 INTEGER PRIMARY KEY,
    path               TEXT    NOT NULL,
    length             INTEGER NOT NULL,
    modification_time  INTEGER NOT NULL,
    file_id            INTEGER NOT NULL,
    method             TEXT    NOT NULL,
    source_checksum    TEXT    NOT NULL,
    object_checksum    TEXT    NOT NULL,
    etag               TEXT    NOT NULL,
    done_at            INTEGER NOT NULL,
    until              INTEGER NOT NULL,
    why                TEXT    NOT NULL,
    error_class        TEXT    NOT NULL DEFAULT '',
    error              TEXT    NOT NULL DEFAULT ''
);
CREATE INDEX former_path ON former (path);

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
