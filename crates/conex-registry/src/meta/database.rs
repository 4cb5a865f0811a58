//! The database file: one connection that writes, on a thread of its own, and a few that read.
//!
//! The writer takes all that waits into one transaction (group commit), so that the disk is waited
//! for once and not once for each request. Each piece of work is a savepoint: one that fails takes
//! nothing with it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::Answer;
use crate::error::{Error, ErrorKind, Result};

/// The format that this version writes (`PRAGMA user_version`).
const SCHEMA_VERSION: i64 = 1;

/// Most pieces of work in one transaction: what comes later waits for the next.
const BATCH_MAX: usize = 256;

/// How long a statement waits for a lock. Only a check of the same data waits at all.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Pages of write-ahead log (4 KiB each) after which a commit also checkpoints.
const CHECKPOINT_PAGES: u32 = 2_000;

/// Connections that read and are kept; more are opened and closed as they are needed.
const READER_COUNT_MAX: usize = 8;

/// Kibibytes of pages that each kind of connection keeps in memory.
const READER_CACHE_KIB: i64 = 512;
const WRITER_CACHE_KIB: i64 = 4_096;

/// How many compiled statements a connection keeps.
const STATEMENT_COUNT_MAX: usize = 64;

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// What was acknowledged survives a power cut.
    Synced,
    /// What was acknowledged survives the end of the process, not that of the machine.
    Unsynced,
}

/// Work for the writer: it is given the connection, or why there is none; and later whether what
/// it wrote is committed.
type Job = Box<dyn FnOnce(std::result::Result<&Connection, &Failure>) -> Finish + Send>;
type Finish = Box<dyn FnOnce(std::result::Result<(), &Failure>)>;

/// Why a whole transaction failed.
struct Failure {
    kind: ErrorKind,
    message: String,
}

/// The open database.
pub(crate) struct Database {
    path: PathBuf,
    readers: Mutex<Vec<Connection>>,
    queue: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Database {
    /// Opens the database, and makes it where there is none.
    pub(crate) fn open(path: &Path, durability: Durability) -> Result<Self> {
        let connection = connect(path, WRITER_CACHE_KIB)?;
        migrate(&connection)?;
        let level = match durability {
            Durability::Synced => "FULL",
            Durability::Unsynced => "OFF",
        };
        connection
            .pragma_update(None, "synchronous", level)
            .and_then(|()| connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES))
            .map_err(|source| Error::database("open the registry's database", source))?;
        let (queue, jobs) = channel();
        let writer = std::thread::Builder::new()
            .name("registry-writer".to_owned())
            .spawn(move || write_all(&connection, &jobs))
            .map_err(|source| Error::system("start a thread", source))?;
        Ok(Self {
            path: path.to_owned(),
            readers: Mutex::default(),
            queue: Some(queue),
            writer: Some(writer),
        })
    }

    /// Reads. All statements of one call see one state.
    ///
    /// The thread that asks waits: a read is a few pages, nearly always in memory.
    pub(crate) fn read<T>(
        &self,
        act: &str,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match kept {
            Some(connection) => connection,
            None => connect(&self.path, READER_CACHE_KIB)?,
        };
        let result = (|| {
            let transaction = connection.unchecked_transaction()?;
            let value = f(&transaction)?;
            transaction.finish()?;
            Ok(value)
        })();
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READER_COUNT_MAX {
            readers.push(connection);
        }
        result.map_err(|source| Error::database(act, source))
    }

    /// Writes: all of `f` or nothing. The answer comes when it is committed.
    pub(crate) fn write<T: Send + 'static>(
        &self,
        act: &'static str,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<'static, T> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let failed = |failure: &Failure| Error::shared(failure.kind, failure.message.clone());
            let result = match connection {
                Ok(connection) => {
                    in_savepoint(connection, f).map_err(|source| Error::database(act, source))
                }
                Err(failure) => Err(failed(failure)),
            };
            Box::new(move |committed| {
                let result = result.and_then(|value| match committed {
                    Ok(()) => Ok(value),
                    Err(failure) => Err(failed(failure)),
                });
                // Who asked may have gone away; what is written stays written.
                let _ = sender.send(result);
            })
        });
        let is_sent = self.queue.as_ref().is_some_and(|queue| queue.send(job).is_ok());
        Box::pin(async move {
            if !is_sent {
                return Err(Error::gone());
            }
            receiver.await.unwrap_or_else(|_| Err(Error::gone()))
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so.
            let _ = writer.join();
        }
    }
}

fn write_all(connection: &Connection, jobs: &Receiver<Job>) {
    let mut finishes = Vec::new();
    while let Ok(first) = jobs.recv() {
        let batch = std::iter::once(first).chain(jobs.try_iter()).take(BATCH_MAX);
        let mut failure = connection.execute_batch("BEGIN IMMEDIATE").err().map(failure);
        for job in batch {
            let given = match &failure {
                None => Ok(connection),
                Some(failure) => Err(failure),
            };
            finishes.push(job(given));
            // A full disk may end the whole transaction at once.
            if failure.is_none() && connection.is_autocommit() {
                let message = "cannot write to the registry's database: the transaction was lost";
                failure = Some(Failure { kind: ErrorKind::NoSpace, message: message.to_owned() });
            }
        }
        if failure.is_none()
            && let Err(error) = connection.execute_batch("COMMIT")
        {
            failure = Some(self::failure(error));
            if !connection.is_autocommit() {
                // A transaction that neither commits nor rolls back fails the next `BEGIN`, loudly.
                let _ = connection.execute_batch("ROLLBACK");
            }
        }
        for finish in finishes.drain(..) {
            finish(failure.as_ref().map_or(Ok(()), Err));
        }
    }
}

fn failure(source: rusqlite::Error) -> Failure {
    let error = Error::database("write to the registry's database", source);
    Failure { kind: error.kind(), message: error.line() }
}

fn in_savepoint<T>(
    connection: &Connection,
    f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    run(connection, "SAVEPOINT job")?;
    match f(connection) {
        Ok(value) => run(connection, "RELEASE job").map(|()| value),
        Err(error) => {
            // If the whole transaction is gone, so is the savepoint.
            if !connection.is_autocommit() {
                run(connection, "ROLLBACK TO job")?;
                run(connection, "RELEASE job")?;
            }
            Err(error)
        }
    }
}

fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

fn connect(path: &Path, cache_kib: i64) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let configured = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_COUNT_MAX);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
        // Hostile rows in a damaged file must not run what they define.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.pragma_update(None, "cache_size", -cache_kib)?;
        Ok(connection)
    });
    configured.map_err(|source| Error::database("open the registry's database", source))
}

fn migrate(connection: &Connection) -> Result<()> {
    let act = |source| Error::database("make the registry's database", source);
    let found: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(act)?;
    match found {
        SCHEMA_VERSION => Ok(()),
        0 => {
            let schema = include_str!("schema.sql");
            let sql = format!(
                "BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            );
            connection.execute_batch(&sql).map_err(act)
        }
        found => Err(Error::too_new(found, SCHEMA_VERSION)),
    }
}

/// Opens the database for a check.
pub(crate) fn open_for_check(path: &Path) -> Result<Connection> {
    let connection = connect(path, WRITER_CACHE_KIB)?;
    migrate(&connection)?;
    Ok(connection)
}
