//! Tables in memory, for what lives no longer than the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Entries, Store, StoreError, Table, Write};

type Tables = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// A store that forgets all when dropped.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Changes are applied by single inserts and removals: a poisoned map is still whole.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables().get(&(table, key.to_vec())).cloned())
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
        let tables = self.tables();
        let range = tables.range((table, from.to_vec())..(table, to.to_vec()));
        let entry = |((_, key), value): (&(Table, Vec<u8>), &Vec<u8>)| (key.clone(), value.clone());
        Ok(if newest_first {
            range.rev().take(limit).map(entry).collect()
        } else {
            range.take(limit).map(entry).collect()
        })
    }

    fn write(&self, changes: &[Write]) -> Result<(), StoreError> {
        let mut tables = self.tables();
        for change in changes {
            let key = (change.table, change.key.clone());
            match &change.value {
                Some(value) => drop(tables.insert(key, value.clone())),
                None => drop(tables.remove(&key)),
            }
        }
        Ok(())
    }
}
