//! The model registry where it lies: a folder or an S3 prefix. Rule: a version's bytes are there before the registry names
//! them, and the registry is replaced only by who has read what it replaces, so that two writers lose nothing.

use std::collections::BTreeMap;

use prescale_domain::Timestamp;
use prescale_forecast::models::ModelKind;
use prescale_forecast::registry::{Registry, RegistryError, Training, Version};
use prescale_store::{Objects, StoreError};
use thiserror::Error;

const REGISTRY: &str = "registry.json";

/// Versions of models in one place.
#[derive(Debug)]
pub struct ModelRegistry {
    objects: Objects,
}

/// A version that is to be registered.
#[derive(Clone, Debug)]
pub struct Draft {
    pub model: ModelKind,
    /// The version that training started from.
    pub parent: Option<u64>,
    pub created_at: Timestamp,
    /// `initial`, `scheduled`, `drift`, `manual`, …
    pub reason: String,
    pub training: Training,
    pub metrics: BTreeMap<String, f64>,
    pub config: serde_json::Value,
    /// The model as it saves itself.
    pub bytes: Vec<u8>,
}

/// A registry that can't be reached, or says no.
#[derive(Debug, Error)]
pub enum ModelError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl ModelRegistry {
    /// `s3://bucket/prefix` or `file:///folder`; made by the first version that is registered.
    ///
    /// # Errors
    /// A place that can't be.
    pub fn open(url: &str) -> Result<Self, ModelError> {
        Ok(Self { objects: Objects::open(url)? })
    }

    /// Where it is.
    pub fn place(&self) -> String {
        self.objects.place()
    }

    /// All versions and the champion; empty where nothing has been registered.
    ///
    /// # Errors
    /// The place can't be reached; the registry is damaged or of another form.
    pub fn read(&self) -> Result<Registry, ModelError> {
        Ok(decode(self.objects.get(REGISTRY)?.map(|found| found.bytes).as_deref())?)
    }

    /// Registers a version, promotes it where `promote` says why, and says its number.
    ///
    /// # Errors
    /// As [`ModelRegistry::read`]; bytes that are no such model.
    pub fn register(&self, draft: Draft, promote: Option<&str>) -> Result<u64, ModelError> {
        let hash = blake3::hash(&draft.bytes).to_hex().to_string();
        // Named by its content: who writes it again writes the same.
        let object = format!("versions/{hash}");
        let version = Version {
            number: 0,
            model: draft.model,
            parent: draft.parent,
            created_at: draft.created_at,
            reason: draft.reason,
            training: draft.training,
            metrics: draft.metrics,
            config: draft.config,
            object: object.clone(),
            bytes: draft.bytes.len() as u64,
            hash: hash.clone(),
        };
        version.check(&draft.bytes, &hash)?;
        // A registry that can't be written is found before anything is put beside it.
        self.read()?.encode()?;
        self.objects.put(&object, draft.bytes)?;
        self.change(|registry| {
            let number = registry.add(version.clone());
            if let Some(why) = promote {
                registry.promote(number, version.created_at, why)?;
            }
            Ok(number)
        })
    }

    /// A version with its bytes, checked.
    ///
    /// # Errors
    /// As [`ModelRegistry::read`]; an unknown version; bytes that are damaged or that this build does not read.
    pub fn load(&self, number: u64) -> Result<(Version, Vec<u8>), ModelError> {
        let version = self.read()?.version(number)?.clone();
        let found = self.objects.get(&version.object)?;
        let gone = || RegistryError::Damaged { number, error: format!("`{}` is not there", version.object) };
        let bytes = found.ok_or_else(gone)?.bytes;
        version.check(&bytes, &blake3::hash(&bytes).to_hex())?;
        Ok((version, bytes))
    }

    /// Makes a version the champion, once it has been read.
    ///
    /// # Errors
    /// As [`ModelRegistry::load`]; it is the champion already.
    pub fn promote(&self, number: u64, at: Timestamp, why: &str) -> Result<(), ModelError> {
        self.load(number)?;
        self.change(|registry| registry.promote(number, at, why))
    }

    /// Makes the champion before the present one the champion again, once it has been read, and says which that is.
    ///
    /// # Errors
    /// As [`ModelRegistry::load`]; there was none before.
    pub fn roll_back(&self, at: Timestamp, why: &str) -> Result<u64, ModelError> {
        let mut trial = self.read()?;
        let former = trial.roll_back(at, why)?;
        self.load(former)?;
        self.change(|registry| registry.roll_back(at, why))
    }

    fn change<T>(&self, mut change: impl FnMut(&mut Registry) -> Result<T, RegistryError>) -> Result<T, ModelError> {
        self.objects.change(REGISTRY, |bytes| {
            let mut registry = decode(bytes)?;
            let result = change(&mut registry)?;
            Ok((result, Some(registry.encode()?)))
        })
    }
}

fn decode(bytes: Option<&[u8]>) -> Result<Registry, RegistryError> {
    bytes.map_or_else(|| Ok(Registry::default()), Registry::decode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(seed: u64) -> Draft {
        Draft {
            model: ModelKind::Lstm,
            parent: None,
            created_at: Timestamp::from_millis(1_750_032_000_000),
            reason: "manual".into(),
            training: Training::default(),
            metrics: BTreeMap::new(),
            config: serde_json::Value::Null,
            bytes: ModelKind::Lstm.build(seed).save(),
        }
    }

    fn registry() -> (tempfile::TempDir, ModelRegistry) {
        let folder = tempfile::tempdir().unwrap();
        let registry = ModelRegistry::open(&format!("file://{}/models", folder.path().display())).unwrap();
        (folder, registry)
    }

    #[test]
    fn a_version_is_read_back_byte_for_byte_promoted_and_rolled_back() {
        let (_folder, registry) = registry();
        assert_eq!(registry.read().unwrap(), Registry::default());
        let now = Timestamp::from_millis(1_750_032_100_000);
        assert_eq!(registry.register(draft(1), Some("first")).unwrap(), 1);
        assert_eq!(registry.register(draft(2), None).unwrap(), 2);
        registry.promote(2, now, "better").unwrap();
        let (version, bytes) = registry.load(2).unwrap();
        assert_eq!((version.number, &bytes), (2, &draft(2).bytes));
        assert_eq!(registry.roll_back(now, "regressed").unwrap(), 1);
        let read = registry.read().unwrap();
        assert_eq!((read.champion, read.sequence, read.reigns.len()), (Some(1), 4, 3));
        assert!(matches!(registry.promote(7, now, ""), Err(ModelError::Registry(RegistryError::Unknown { .. }))));
    }

    #[test]
    fn damaged_bytes_are_not_promoted_and_the_champion_stays() {
        let (folder, registry) = registry();
        let now = Timestamp::from_millis(0);
        registry.register(draft(1), Some("first")).unwrap();
        registry.register(draft(2), None).unwrap();
        let (version, bytes) = registry.load(2).unwrap();
        let path = folder.path().join("models").join(&version.object);
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(registry.promote(2, now, ""), Err(ModelError::Registry(RegistryError::Damaged { .. }))));
        std::fs::remove_file(&path).unwrap();
        assert!(registry.promote(2, now, "").unwrap_err().to_string().contains("is not there"));
        assert_eq!(registry.read().unwrap().champion, Some(1));
        let error = registry.register(Draft { bytes: b"{}".to_vec(), ..draft(3) }, None).unwrap_err().to_string();
        assert!(error.contains("saved model"), "{error}");
    }

    #[test]
    fn two_writers_at_a_time_lose_no_version() {
        let (folder, _) = registry();
        let url = format!("file://{}/models", folder.path().display());
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let url = &url;
                scope.spawn(move || {
                    let registry = ModelRegistry::open(url).unwrap();
                    for n in 0..5 {
                        registry.register(draft(writer * 100 + n), None).unwrap();
                    }
                });
            }
        });
        let read = ModelRegistry::open(&url).unwrap().read().unwrap();
        assert_eq!(read.versions.keys().copied().collect::<Vec<_>>(), (1..=15).collect::<Vec<_>>());
        assert_eq!(read.sequence, 15);
    }
}
