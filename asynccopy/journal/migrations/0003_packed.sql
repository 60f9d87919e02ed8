-- Files that are done and at rest, many to a row. What the table means is told in ../schema.sql. Nothing is packed here:
-- ten million rows take no longer than ten.

CREATE TABLE packed (
    id         INTEGER PRIMARY KEY,
    directory  INTEGER NOT NULL REFERENCES directories (id),
    first      TEXT    NOT NULL,
    files      INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    versions   BLOB    NOT NULL,
    proofs     BLOB    NOT NULL,
    UNIQUE (directory, first)
);

CREATE TRIGGER count_packed AFTER INSERT ON packed BEGIN
    UPDATE counts SET files = files + NEW.files, bytes = bytes + NEW.bytes WHERE state = 1;
END;
CREATE TRIGGER count_unpacked AFTER DELETE ON packed BEGIN
    UPDATE counts SET files = files - OLD.files, bytes = bytes - OLD.bytes WHERE state = 1;
END;
