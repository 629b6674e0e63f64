//! What the machine does without the program.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature,
};
use rusqlite::{Connection, OpenFlags, types::Value};

use crate::cpu_seconds;

/// Rows as the program stores them, in a database of the same tables and indices, as durable.
pub(crate) struct Rows {
    connection: Connection,
    insert: String,
    row: Vec<Value>,
    jti: usize,
    number: i64,
}

impl Rows {
    /// Takes tables, indices and a row for a family out of the program's database.
    pub(crate) fn like(program: &Path, directory: &Path) -> Self {
        let theirs = Connection::open_with_flags(program, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let connection = Connection::open(directory.join("bare.db")).unwrap();
        let mode: String = connection
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
        connection.execute_batch("PRAGMA synchronous = FULL").unwrap();
        let mut schema = theirs
            .prepare("SELECT sql FROM sqlite_schema WHERE tbl_name = 'family' AND type IN ('table', 'index') AND sql IS NOT NULL")
            .unwrap();
        let statements = schema.query_map([], |row| row.get::<_, String>(0)).unwrap();
        for statement in statements {
            connection.execute_batch(&statement.unwrap()).unwrap();
        }
        // The first column is the row's number.
        let mut family = theirs.prepare("SELECT * FROM family LIMIT 1").unwrap();
        let columns = family.column_count();
        let jti = family.column_index("parent_jti").unwrap();
        let row: Vec<Value> = family
            .query_row([], |row| (0..columns).map(|at| row.get(at)).collect())
            .unwrap();
        let places = vec!["?"; columns].join(", ");
        Self {
            connection,
            insert: format!("INSERT INTO family VALUES ({places})"),
            row,
            jti,
            number: 0,
        }
    }

    /// Rows in a second, so many to a commit.
    pub(crate) fn rate(&mut self, commit: usize, time: Duration) -> f64 {
        let (first, began) = (self.number, Instant::now());
        let length = match &self.row[self.jti] {
            Value::Text(jti) => jti.len(),
            other => panic!("{other:?}"),
        };
        while began.elapsed() < time {
            let transaction = self.connection.transaction().unwrap();
            let mut insert = transaction.prepare_cached(&self.insert).unwrap();
            for _ in 0..commit {
                self.number += 1;
                // As long as the real one, and as scattered over the index.
                let scattered = self.number.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
                self.row[0] = Value::Integer(self.number);
                self.row[self.jti] = Value::Text(format!("{scattered:0length$x}").chars().rev().collect());
                insert.execute(rusqlite::params_from_iter(&self.row)).unwrap();
            }
            drop(insert);
            transaction.commit().unwrap();
        }
        (self.number - first) as f64 / began.elapsed().as_secs_f64()
    }
}

/// RSA-2048 signatures for each second of processor time of this thread.
pub(crate) fn signatures(time: Duration) -> f64 {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    let input = [b'x'; 600];
    let stat = Path::new("/proc/thread-self/stat");
    let (before, began) = (cpu_seconds(stat), Instant::now());
    let mut count = 0;
    while began.elapsed() < time {
        key.sign(
            &signature::RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            &input,
            &mut signature,
        )
        .unwrap();
        count += 1;
    }
    f64::from(count) / (cpu_seconds(stat) - before)
}
