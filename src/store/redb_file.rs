//! Tables in one redb file. Rule: one transaction a write, synced before it returns.

use std::fs;
use std::path::Path;

use redb::{Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition, TableError};

use crate::{Entries, Store, StoreError, Table, Write};

/// A redb file, held exclusively by this process.
pub struct RedbStore {
    path: String,
    database: Database,
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

impl RedbStore {
    /// Opens `<directory>/state.redb`, creating both where missing.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join("state.redb");
        let shown = path.display().to_string();
        let fail = |error: String| StoreError::File { path: shown.clone(), error };
        let damaged = |error: &str| StoreError::Damaged { object: shown.clone(), error: error.to_owned() };
        fs::create_dir_all(directory).map_err(|error| fail(error.to_string()))?;
        // redb believes the bytes of a file that was closed in order, and panics where they make no sense: a file that was
        // damaged meanwhile is found here, once and whole, not by whatever reads it later.
        let opened = std::panic::catch_unwind(|| {
            let mut database = Database::create(&path).map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: shown.clone() },
                DatabaseError::Storage(StorageError::Io(error)) => fail(error.to_string()),
                other => damaged(&other.to_string()),
            })?;
            match database.check_integrity() {
                Ok(true) => Ok(database),
                Ok(false) => Err(damaged("it was brought back to an earlier state; start again to go on from that")),
                Err(error) => Err(damaged(&error.to_string())),
            }
        });
        let database = opened.unwrap_or_else(|_| Err(damaged("its bytes are not those that were written")))?;
        Ok(Self { path: shown, database })
    }

    fn fail(&self, error: impl std::fmt::Display) -> StoreError {
        StoreError::File { path: self.path.clone(), error: error.to_string() }
    }
}

impl Store for RedbStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let read = self.database.begin_read().map_err(|e| self.fail(e))?;
        let opened = match read.open_table(definition(table)) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            other => other.map_err(|e| self.fail(e))?,
        };
        Ok(opened.get(key).map_err(|e| self.fail(e))?.map(|value| value.value().to_vec()))
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        newest_first: bool,
    ) -> Result<Entries, StoreError> {
        if from >= to {
            return Ok(Entries::new());
        }
        let read = self.database.begin_read().map_err(|e| self.fail(e))?;
        let opened = match read.open_table(definition(table)) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Entries::new()),
            other => other.map_err(|e| self.fail(e))?,
        };
        let mut range = opened.range(from..to).map_err(|e| self.fail(e))?;
        let mut entries = Entries::new();
        while entries.len() < limit {
            let next = if newest_first { range.next_back() } else { range.next() };
            let Some(entry) = next else { break };
            let (key, value) = entry.map_err(|e| self.fail(e))?;
            entries.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(entries)
    }

    fn write(&self, changes: &[Write]) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write().map_err(|e| self.fail(e))?;
        // With one phase, damage to what was written last passes for a commit that a crash cut off, and is silently undone.
        transaction.set_two_phase_commit(true);
        for change in changes {
            let mut table = transaction.open_table(definition(change.table)).map_err(|e| self.fail(e))?;
            match &change.value {
                Some(value) => drop(table.insert(&*change.key, &**value).map_err(|e| self.fail(e))?),
                None => drop(table.remove(&*change.key).map_err(|e| self.fail(e))?),
            }
        }
        transaction.commit().map_err(|e| self.fail(e))
    }
}
