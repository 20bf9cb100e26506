//! Tables in one redb file. Rule: one transaction a write, synced before it returns.

use std::fs;
use std::path::Path;

use redb::{Database, DatabaseError, ReadableDatabase, TableDefinition, TableError};

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
        fs::create_dir_all(directory).map_err(|error| fail(error.to_string()))?;
        let database = Database::create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: shown.clone() },
            other => fail(other.to_string()),
        })?;
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
        let transaction = self.database.begin_write().map_err(|e| self.fail(e))?;
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
