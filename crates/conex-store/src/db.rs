//! The database of a store: one connection a process, one writer at a time.
//!
//! Invariant: whoever writes rows holds `write.lock`. The lock queues writers in the kernel, where
//! SQLite's own busy handler would poll; and what is renamed into its place inside a write
//! transaction cannot be taken for a leftover by a sweep, which is a write transaction too.
//!
//! It does not know what the rows mean.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::lock::{FileLock, Mode, lock};

/// The format that this version writes (`PRAGMA user_version`).
pub(crate) const SCHEMA_VERSION: i64 = 1;

/// Steps from each format to the next; `MIGRATIONS[0]` makes a new database.
const MIGRATIONS: [&str; SCHEMA_VERSION as usize] = [include_str!("schema.sql")];

/// How long a statement waits for a lock of SQLite itself. Writers queue on `write.lock`, so this
/// only bridges checkpoints and the recovery after a crash.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

/// Pages of write-ahead log (4 KiB each) after which a commit also checkpoints. An open after a
/// crash or by a lone process reads the log, so it is kept short.
const CHECKPOINT_PAGES: u32 = 256;

/// How many compiled statements a connection keeps.
const STATEMENT_COUNT_MAX: usize = 128;

/// The database.
pub(crate) struct Database {
    connection: Mutex<Connection>,
    write_lock: std::fs::File,
    path: PathBuf,
    write_lock_path: PathBuf,
}

impl Database {
    /// Opens the database and brings it to the format of this version.
    pub(crate) fn open(layout: &Layout) -> Result<Self> {
        let path = layout.database();
        let write_lock_path = layout.write_lock();
        let write_lock = FileLock::open(&write_lock_path)?;
        let connection = connect(&path)?;
        let database =
            Self { connection: Mutex::new(connection), write_lock, path, write_lock_path };
        database.migrate(layout)?;
        Ok(database)
    }

    /// Reads. The statements of one call see one state only if `f` makes a transaction of them.
    pub(crate) fn read<T>(
        &self,
        act: &str,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        f(&self.connection()).map_err(|source| self.error(act, source))
    }

    /// Reads in one transaction, so that all statements see one state.
    pub(crate) fn read_all<T>(
        &self,
        act: &str,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        self.read(act, |connection| {
            let transaction = connection.unchecked_transaction()?;
            let value = f(&transaction)?;
            transaction.finish()?;
            Ok(value)
        })
    }

    /// Writes in one transaction, alone among all processes. When `f` or the commit fails, the rows
    /// and the renames of [`Writer::publish`] are undone. Else `bury` gets, still alone, each path
    /// that [`Writer::discard`] named: its row is gone for good by then.
    pub(crate) fn write<T>(
        &self,
        act: &str,
        bury: &mut dyn FnMut(&Path),
        f: impl FnOnce(&Writer<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut connection = self.connection();
        let _turn = Turn::take(&self.write_lock, &self.write_lock_path)?;
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|source| self.error(act, source))?;
        let files = RefCell::new(Files::default());
        let writer = Writer { transaction, database: self, act, files: &files };
        let result = f(&writer).and_then(|value| {
            writer.transaction.commit().map_err(|source| self.error(act, source))?;
            Ok(value)
        });
        let files = files.take();
        match result {
            Ok(value) => {
                files.discarded.iter().for_each(|path| bury(path));
                Ok(value)
            }
            Err(error) => {
                for (from, to) in files.published.iter().rev() {
                    // A file that stays without its row is found by the next sweep.
                    let _ = std::fs::rename(to, from);
                }
                Err(error)
            }
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic cannot leave a transaction open: dropping it rolls back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn error(&self, act: &str, source: rusqlite::Error) -> Error {
        Error::database(act, &self.path, source)
    }

    fn migrate(&self, layout: &Layout) -> Result<()> {
        let found = self.version()?;
        if found == SCHEMA_VERSION {
            return Ok(());
        }
        check_version(layout, found)?;
        self.write("bring the store to this version's format", &mut |_| {}, |writer| {
            // Another process may have been faster.
            let found: i64 =
                writer.run(|tx| tx.query_row("PRAGMA user_version", [], |r| r.get(0)))?;
            check_version(layout, found)?;
            let done = usize::try_from(found).unwrap_or_default();
            for step in MIGRATIONS.iter().skip(done) {
                writer.run(|tx| tx.execute_batch(step))?;
            }
            writer.run(|tx| tx.pragma_update(None, "user_version", SCHEMA_VERSION))
        })
    }

    fn version(&self) -> Result<i64> {
        self.read("read the store's format", |connection| {
            connection.query_row("PRAGMA user_version", [], |row| row.get(0))
        })
    }
}

fn check_version(layout: &Layout, found: i64) -> Result<()> {
    if (0..=SCHEMA_VERSION).contains(&found) {
        return Ok(());
    }
    Err(Error::too_new(layout.root(), found, SCHEMA_VERSION))
}

fn connect(path: &Path) -> Result<Connection> {
    let act = |source| Error::database("open the store", path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(act)?;
    configure(&connection).map_err(act)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_COUNT_MAX);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
    // The last process to close would otherwise write and sync the whole log: milliseconds at the
    // end of every command.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Hostile rows in a damaged file must not run what they define.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if mode != "wal" {
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    }
    connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)
}

/// The right to write, among all processes.
struct Turn<'f>(&'f std::fs::File);

impl<'f> Turn<'f> {
    fn take(file: &'f std::fs::File, path: &Path) -> Result<Self> {
        lock(file, Mode::Exclusive).map_err(|source| Error::io("lock", path, source))?;
        Ok(Self(file))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // The lock of a file that is open cannot fail to be given back.
        let _ = self.0.unlock();
    }
}

/// A write transaction.
pub(crate) struct Writer<'d> {
    transaction: Transaction<'d>,
    database: &'d Database,
    act: &'d str,
    files: &'d RefCell<Files>,
}

/// What a write transaction does to files.
#[derive(Default)]
struct Files {
    /// Renamed, from and to.
    published: Vec<(PathBuf, PathBuf)>,
    /// To be removed once the rows are gone.
    discarded: Vec<PathBuf>,
}

impl Writer<'_> {
    /// Renames a finished file or tree to the place where the rows of this transaction say it is.
    pub(crate) fn publish(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to).map_err(|source| Error::io("put into place", to, source))?;
        self.files.borrow_mut().published.push((from.to_owned(), to.to_owned()));
        Ok(())
    }

    /// Has a file or tree removed once the transaction is committed.
    pub(crate) fn discard(&self, path: PathBuf) {
        self.files.borrow_mut().discarded.push(path);
    }

    /// Runs statements.
    pub(crate) fn run<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        f(&self.transaction).map_err(|source| self.database.error(self.act, source))
    }

    /// Runs one statement that changes rows; returns how many.
    pub(crate) fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize> {
        self.run(|tx| tx.prepare_cached(sql)?.execute(params))
    }

    /// Whether a query gives a row.
    pub(crate) fn exists(&self, sql: &str, params: impl rusqlite::Params) -> Result<bool> {
        self.run(|tx| tx.prepare_cached(sql)?.exists(params))
    }

    /// The first row of a query, if there is one.
    pub(crate) fn first<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        map: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        self.run(|tx| first(tx, sql, params, map))
    }

    /// All rows of a query.
    pub(crate) fn rows<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        map: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.run(|tx| rows(tx, sql, params, map))
    }
}

/// The first row of a query, if there is one.
pub(crate) fn first<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    mut map: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(&mut map).transpose()
}

/// All rows of a query.
pub(crate) fn rows<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    map: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(params, map)?.collect()
}
