//! Objects below one place, for several processes at a time. Rule: an object that may change is replaced only by who has
//! read what it replaces; all others are written once.

use std::sync::OnceLock;

use prescale_domain::Span;
use tokio::runtime::{Builder, Runtime};

use crate::StoreError;
use crate::bucket::place::{Place, Swapped, Version};

/// Times that a change is tried again because somebody else was first.
const RACES: u32 = 50;
/// How long after another's change it is tried again, at most.
const PAUSE: Span = Span::from_millis(40);

/// A folder, or a prefix of an S3 bucket. Unlike [`crate::BucketStore`] nobody holds it: whoever changes an object says
/// which content of it that replaces. Calls block; not to be called from async code.
#[derive(Debug)]
pub struct Objects {
    place: Place,
    /// Begun by the first call, so that one that is never asked may be dropped anywhere.
    runtime: OnceLock<Runtime>,
}

/// An object's content and which content it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub bytes: Vec<u8>,
    version: Version,
}

impl Objects {
    /// `s3://bucket/prefix` (with `?endpoint=URL&region=NAME`) or `file:///folder`; nothing is asked of it yet.
    ///
    /// # Errors
    /// A place that can't be.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self { place: Place::parse(url)?, runtime: OnceLock::new() })
    }

    fn runtime(&self) -> Result<&Runtime, StoreError> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let refused = |error: std::io::Error| StoreError::Refused { place: self.place(), error: error.to_string() };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(refused)?;
        Ok(self.runtime.get_or_init(|| runtime))
    }

    /// The content of an object; `None` where there is none.
    ///
    /// # Errors
    /// The place can't be reached, or refuses.
    pub fn get(&self, name: &str) -> Result<Option<Found>, StoreError> {
        let found = self.runtime()?.block_on(self.place.get(name))?;
        Ok(found.map(|(bytes, version)| Found { bytes, version }))
    }

    /// Writes an object whose name nobody else uses.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.runtime()?.block_on(self.place.put(name, bytes))
    }

    /// Writes an object if its content is still the one that was found (not there: `None`). Says whether it did.
    ///
    /// # Errors
    /// As [`Objects::get`]; a server that ignores the condition is refused.
    pub fn swap(&self, name: &str, bytes: Vec<u8>, found: Option<&Found>) -> Result<bool, StoreError> {
        let expected = found.map(|found| &found.version);
        match self.runtime()?.block_on(self.place.swap(name, bytes, expected))? {
            Swapped::Yes(_) => Ok(true),
            Swapped::No => Ok(false),
        }
    }

    /// Reads an object, lets `change` make the next content of it, and writes that; again from the start where somebody
    /// else was first. `change` says `None` where nothing is to be written.
    ///
    /// # Errors
    /// Those of `change`, and as [`Objects::get`].
    pub fn change<T, E: From<StoreError>>(
        &self,
        name: &str,
        mut change: impl FnMut(Option<&[u8]>) -> Result<(T, Option<Vec<u8>>), E>,
    ) -> Result<T, E> {
        for race in 0..RACES {
            let found = self.get(name)?;
            let (result, next) = change(found.as_ref().map(|found| found.bytes.as_slice()))?;
            let Some(next) = next else { return Ok(result) };
            // A server that ignores conditions would let two processes write over each other: one that can't be met must
            // not be.
            if race == 0 && found.is_some() && self.ignores_conditions(name, &next)? {
                let error = "the server ignores the conditions of writes (If-None-Match, If-Match)".to_owned();
                return Err(StoreError::Refused { place: self.place.name(name), error }.into());
            }
            if self.swap(name, next, found.as_ref())? {
                return Ok(result);
            }
            let pause = PAUSE.to_std() * race.min(8) / 8;
            self.runtime()?.block_on(async { tokio::time::sleep(pause).await });
        }
        let error = "other processes write it all the time".to_owned();
        Err(StoreError::Refused { place: self.place.name(name), error }.into())
    }

    fn ignores_conditions(&self, name: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        let never = Version::never();
        Ok(matches!(self.runtime()?.block_on(self.place.swap(name, bytes.to_vec(), Some(&never)))?, Swapped::Yes(_)))
    }

    /// Deletes an object; one that is gone already is deleted.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.runtime()?.block_on(self.place.delete(name))
    }

    /// Where it is, without secrets.
    pub fn place(&self) -> String {
        self.place.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Objects) {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(&format!("file://{}", folder.path().display())).unwrap();
        (folder, objects)
    }

    #[test]
    fn an_object_is_replaced_only_by_who_has_read_it() {
        let (_folder, objects) = folder();
        assert_eq!(objects.get("a").unwrap(), None);
        assert!(objects.swap("a", b"1".to_vec(), None).unwrap());
        assert!(!objects.swap("a", b"2".to_vec(), None).unwrap());
        let found = objects.get("a").unwrap().unwrap();
        assert!(objects.swap("a", b"2".to_vec(), Some(&found)).unwrap());
        assert!(!objects.swap("a", b"3".to_vec(), Some(&found)).unwrap());
        assert_eq!(objects.get("a").unwrap().unwrap().bytes, b"2");
        objects.delete("a").unwrap();
        objects.delete("a").unwrap();
        assert_eq!(objects.get("a").unwrap(), None);
    }

    #[test]
    fn changes_of_many_at_a_time_are_all_there() {
        let (folder, _) = folder();
        let url = format!("file://{}", folder.path().display());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let objects = Objects::open(&url).unwrap();
                    for _ in 0..10 {
                        let counted = |bytes: Option<&[u8]>| {
                            let next = bytes.map_or(1, |bytes| bytes[0] + 1);
                            Ok::<_, StoreError>(((), Some(vec![next])))
                        };
                        objects.change("count", counted).unwrap();
                    }
                });
            }
        });
        let objects = Objects::open(&url).unwrap();
        assert_eq!(objects.get("count").unwrap().unwrap().bytes, [40]);
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        for url in ["relative", "file://relative", "s3://", "s3://bucket/x?odd"] {
            assert!(matches!(Objects::open(url), Err(StoreError::Refused { .. })), "{url}");
        }
    }
}
