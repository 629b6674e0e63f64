//! The tables, and how an older store gets them.

use rusqlite::Connection;

/// Each brings a store from the version that is its index to the next. Only ever append: the version in the
/// file is how many of them it has seen. Times are milliseconds since the Unix epoch; a digest is SHA-256 over
/// the row's other values.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE snapshot (
        tenant           TEXT    NOT NULL,
        name             TEXT    NOT NULL,
        url              TEXT    NOT NULL,
        config_hash      BLOB    NOT NULL,
        body             BLOB    NOT NULL,
        etag             TEXT,
        last_modified    TEXT,
        fetched_at       INTEGER NOT NULL,  -- milliseconds since the Unix epoch
        upstream_max_age INTEGER,           -- milliseconds
        digest           BLOB    NOT NULL,  -- SHA-256 of all the others
        PRIMARY KEY (tenant, name)
    ) STRICT;
    ",
    "
    CREATE TABLE counter (
        name  TEXT    NOT NULL PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT;
    INSERT INTO counter VALUES ('idps', 0), ('revocations', 0), ('mark', 0);

    CREATE TABLE idp (
        number     INTEGER NOT NULL PRIMARY KEY,  -- in the order of addition
        tenant     TEXT    NOT NULL,
        name       TEXT    NOT NULL,
        document   TEXT    NOT NULL,
        changed_at INTEGER NOT NULL,
        digest     BLOB    NOT NULL,
        UNIQUE (tenant, name)
    ) STRICT;
    -- How many there are, without counting 100,000 rows.
    CREATE TRIGGER idp_added AFTER INSERT ON idp BEGIN
        UPDATE counter SET value = value + 1 WHERE name = 'idps';
    END;
    CREATE TRIGGER idp_removed AFTER DELETE ON idp BEGIN
        UPDATE counter SET value = value - 1 WHERE name = 'idps';
    END;

    CREATE TABLE audit (
        number  INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,  -- without gaps
        at      INTEGER NOT NULL,
        who     TEXT    NOT NULL,
        address TEXT    NOT NULL,
        action  TEXT    NOT NULL,
        target  TEXT    NOT NULL,
        outcome TEXT    NOT NULL,
        digest  BLOB    NOT NULL
    ) STRICT;

    CREATE TABLE family (
        number           INTEGER NOT NULL PRIMARY KEY,
        parent_jti       TEXT    NOT NULL UNIQUE,
        user_id          TEXT    NOT NULL,
        profile          BLOB    NOT NULL,
        expires_at       INTEGER NOT NULL,
        sequence         INTEGER NOT NULL,
        child_jti        TEXT,  -- these four are NULL together
        child_token      BLOB,
        child_issued_at  INTEGER,
        child_expires_at INTEGER,
        next_renewal     INTEGER,
        digest           BLOB    NOT NULL
    ) STRICT;
    CREATE INDEX family_due ON family (next_renewal) WHERE next_renewal IS NOT NULL;
    CREATE INDEX family_expired ON family (expires_at);

    CREATE TABLE revocation (
        sequence   INTEGER NOT NULL PRIMARY KEY,  -- of its last change
        id         TEXT    NOT NULL UNIQUE,
        issuer     TEXT    NOT NULL,
        kind       TEXT    NOT NULL,
        value      TEXT    NOT NULL,
        time       INTEGER,           -- what a not-before compares with
        expires_at INTEGER,
        created_at INTEGER NOT NULL,
        note       TEXT    NOT NULL,
        digest     BLOB    NOT NULL,
        UNIQUE (issuer, kind, value)
    ) STRICT;
    CREATE INDEX revocation_expired ON revocation (expires_at) WHERE expires_at IS NOT NULL;

    CREATE TABLE keyring (
        only    INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
        version INTEGER NOT NULL,
        bytes   BLOB    NOT NULL,
        digest  BLOB    NOT NULL
    ) STRICT;
    ",
    "
    -- Of the audit log so many are kept of each action, successes and failures apart.
    CREATE INDEX audit_of_kind ON audit (action, outcome = 'ok', number);
    CREATE TABLE audit_kind (
        action    TEXT    NOT NULL,
        succeeded INTEGER NOT NULL,
        kept      INTEGER NOT NULL,  -- how many there are
        PRIMARY KEY (action, succeeded)
    ) STRICT;
    INSERT INTO audit_kind SELECT action, outcome = 'ok', count(*) FROM audit GROUP BY 1, 2;

    -- How many families there are, without counting a million.
    INSERT INTO counter SELECT 'families', count(*) FROM family;
    CREATE TRIGGER family_added AFTER INSERT ON family BEGIN
        UPDATE counter SET value = value + 1 WHERE name = 'families';
    END;
    CREATE TRIGGER family_removed AFTER DELETE ON family BEGIN
        UPDATE counter SET value = value - 1 WHERE name = 'families';
    END;
    ",
    "
    CREATE TABLE tombstone (  -- of what was deleted, so that nobody who still has it brings it back
        kind   TEXT    NOT NULL,  -- idp, or the kind of a rule
        owner  TEXT    NOT NULL,  -- its tenant, or its issuer
        name   TEXT    NOT NULL,  -- its name, or what the rule names
        time   INTEGER,           -- what the rule compares with
        at     INTEGER NOT NULL,  -- of the deletion
        until  INTEGER,           -- when it may go
        digest BLOB    NOT NULL,
        PRIMARY KEY (kind, owner, name)
    ) STRICT;
    CREATE INDEX tombstone_until ON tombstone (until) WHERE until IS NOT NULL;
    ",
];

/// The newest version that this program knows.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// The version of a store; an empty file has none, 0.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings a store from `version` to the newest one, step by step: a crash leaves it at one of them.
pub(super) fn upgrade(connection: &mut Connection, version: usize) -> rusqlite::Result<()> {
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let step = connection.transaction()?;
        step.execute_batch(migration)?;
        step.execute_batch(&format!("PRAGMA user_version = {}", index + 1))?;
        step.commit()?;
    }
    Ok(())
}
