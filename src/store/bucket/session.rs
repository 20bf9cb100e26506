//! One process's hold on a bucket. Rule: the manifest is replaced only if it is the one that this process wrote last;
//! objects are deleted only if no manifest that may count names them.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use super::manifest::{Held, Manifest, Value};
use super::place::{Place, Swapped, Version};
use crate::{MemoryStore, Store as _, StoreError, Write};

pub(super) const MANIFEST: &str = "manifest";
pub(super) const OBJECTS: &str = "objects";
/// Values up to this size are kept in the manifest.
pub(super) const SMALL: usize = 16 * 1024;
/// How often a process that opens a store is overtaken by others' writes before it gives up.
const RACES: u32 = 100;

pub(super) struct Session {
    place: Place,
    /// As it was written last.
    manifest: Manifest,
    version: Version,
    /// Objects that were put by this process.
    puts: u64,
    /// Objects that may exist.
    objects: BTreeSet<String>,
}

impl Session {
    /// Takes the place over and reads all that it holds into `memory`.
    pub(super) async fn open(place: Place, memory: &MemoryStore) -> Result<Self, StoreError> {
        let owner = format!("{:016x}", RandomState::new().build_hasher().finish());
        let mut races = 0;
        let (manifest, version) = loop {
            let found = read(&place).await?;
            let (before, expected) = found.map_or((Manifest::default(), None), |(read, at)| (read, Some(at)));
            let own = Manifest {
                sequence: before.sequence + 1,
                generation: before.generation + 1,
                owner: owner.clone(),
                held: before.held,
            };
            match place.swap(MANIFEST, own.encode(), expected.as_ref()).await? {
                Swapped::Yes(version) => break (own, version),
                Swapped::No if races < RACES => races += 1,
                Swapped::No => {
                    let error = "other processes write it all the time".to_owned();
                    return Err(StoreError::Refused { place: place.to_string(), error });
                }
            }
        };
        let mut session = Self { place, manifest, version, puts: 0, objects: BTreeSet::new() };
        session.prove_conditions().await?;
        session.load(memory).await?;
        session.objects.extend(session.place.list(OBJECTS).await?);
        Ok(session)
    }

    /// A server that ignores the conditions of a put would let two processes write over each other. What is put here, if
    /// it is such a server, is what lies there.
    async fn prove_conditions(&self) -> Result<(), StoreError> {
        for expected in [None, Some(&Version::never())] {
            if let Swapped::Yes(_) = self.place.swap(MANIFEST, self.manifest.encode(), expected).await? {
                let error = "the server ignores the conditions of writes (If-None-Match, If-Match)".to_owned();
                return Err(StoreError::Refused { place: self.place.to_string(), error });
            }
        }
        Ok(())
    }

    async fn load(&self, memory: &MemoryStore) -> Result<(), StoreError> {
        for ((table, key), value) in &self.manifest.held {
            let bytes = match value {
                Value::Here(bytes) => bytes.clone(),
                Value::There { object, length, hash } => {
                    let damaged = |error: &str| damaged(&self.place, object, error);
                    let (bytes, _) = self.place.get(object).await?.ok_or_else(|| damaged("it is not there"))?;
                    if bytes.len() as u64 != *length {
                        return Err(damaged(&format!("it has {} bytes, {length} were written", bytes.len())));
                    }
                    if blake3::hash(&bytes).as_bytes() != hash {
                        return Err(damaged("its bytes are not those that were written"));
                    }
                    bytes
                }
            };
            memory.write(&[Write { table: *table, key: key.clone(), value: Some(bytes) }])?;
        }
        Ok(())
    }

    /// Writes all changes in one manifest, then changes `memory`. After an error nothing counts as written; the same
    /// changes may be written again.
    pub(super) async fn write(&mut self, changes: &[&Write], memory: &MemoryStore) -> Result<(), StoreError> {
        let mut held = self.manifest.held.clone();
        // The last change of a key counts; those before it need no object.
        for change in changes {
            let key = (change.table, change.key.clone());
            match &change.value {
                Some(bytes) => drop(held.insert(key, Value::Here(bytes.clone()))),
                None => drop(held.remove(&key)),
            }
        }
        self.put_large(&mut held).await?;
        let mut next = Manifest { held, sequence: self.manifest.sequence + 1, ..self.manifest.clone() };
        loop {
            match self.place.swap(MANIFEST, next.encode(), Some(&self.version)).await? {
                Swapped::Yes(version) => {
                    (self.manifest, self.version) = (next, version);
                    break;
                }
                Swapped::No => {
                    // Ours, if a write that seemed to have failed went through: then this one takes its place.
                    let (found, version) = self.present().await?;
                    self.version = version;
                    next.sequence = found.sequence + 1;
                }
            }
        }
        let changes: Vec<Write> = changes.iter().map(|change| (*change).clone()).collect();
        memory.write(&changes)
    }

    /// Gives values that are not small an object of their own.
    async fn put_large(&mut self, held: &mut Held) -> Result<(), StoreError> {
        for value in held.values_mut() {
            let Value::Here(bytes) = value else { continue };
            if bytes.len() <= SMALL {
                continue;
            }
            self.puts += 1;
            let Manifest { generation, owner, .. } = &self.manifest;
            let object = format!("{OBJECTS}/{generation:010}-{owner}-{:010}", self.puts);
            let (length, hash) = (bytes.len() as u64, *blake3::hash(bytes).as_bytes());
            self.objects.insert(object.clone());
            self.place.put(&object, std::mem::take(bytes)).await?;
            *value = Value::There { object, length, hash };
        }
        Ok(())
    }

    /// The manifest that lies there, which must be of this process.
    async fn present(&self) -> Result<(Manifest, Version), StoreError> {
        let found =
            read(&self.place).await?.ok_or_else(|| damaged(&self.place, MANIFEST, "it is not there any more"))?;
        if found.0.owner == self.manifest.owner {
            return Ok(found);
        }
        Err(StoreError::Fenced {
            place: self.place.to_string(),
            own: self.manifest.generation,
            found: found.0.generation,
        })
    }

    /// Deletes objects that nothing names: of writes that failed, of processes that ended, of values that were replaced.
    /// What can't be deleted now is left for later.
    pub(super) async fn clean(&mut self) {
        let named: BTreeSet<&String> = self.manifest.held.values().filter_map(Value::object).collect();
        let unnamed: Vec<String> = self.objects.iter().filter(|object| !named.contains(object)).cloned().collect();
        for object in unnamed {
            if self.place.delete(&object).await.is_err() {
                return;
            }
            self.objects.remove(&object);
        }
    }
}

impl Value {
    fn object(&self) -> Option<&String> {
        match self {
            Self::Here(_) => None,
            Self::There { object, .. } => Some(object),
        }
    }
}

async fn read(place: &Place) -> Result<Option<(Manifest, Version)>, StoreError> {
    let Some((bytes, version)) = place.get(MANIFEST).await? else { return Ok(None) };
    let manifest = Manifest::decode(&bytes).map_err(|error| damaged(place, MANIFEST, error))?;
    Ok(Some((manifest, version)))
}

fn damaged(place: &Place, object: &str, error: &str) -> StoreError {
    StoreError::Damaged { object: place.name(object), error: error.to_owned() }
}
