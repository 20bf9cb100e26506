//! What is known of each version of a model, and which one is the champion. Rule: pure: bytes in, bytes out; a version
//! never changes once it is there, and a form that this build does not know is refused, never guessed.

use std::collections::BTreeMap;

use prescale_domain::{ServiceName, Span, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::ForecastCrateError;
use crate::models::ModelKind;

const FORMAT: &str = "prescale-model-registry";
/// Another major form is refused.
const MAJOR: u32 = 1;
/// A newer minor form is read, what it adds is passed over; it is not written, so that nothing of it is lost.
const MINOR: u32 = 0;

/// One version of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Counts from 1.
    pub number: u64,
    pub model: ModelKind,
    /// The version that training started from.
    #[serde(default)]
    pub parent: Option<u64>,
    pub created_at: Timestamp,
    /// `initial`, `scheduled`, `drift`, `manual`, …
    pub reason: String,
    pub training: Training,
    /// Figures on windows that it was not trained on, by name.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// Settings that it was trained with.
    #[serde(default)]
    pub config: serde_json::Value,
    /// Name of the object with its bytes, and what they must be.
    pub object: String,
    pub bytes: u64,
    /// BLAKE3 of the bytes, in hexadecimal.
    pub hash: String,
}

/// What a version was trained on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    /// Windows that start in `[from, until)`.
    pub from: Timestamp,
    pub until: Timestamp,
    pub step: Span,
    pub horizon_steps: u32,
    pub services: Vec<ServiceName>,
}

/// A change of the champion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reign {
    pub version: u64,
    pub at: Timestamp,
    /// `promoted` or `rolled-back`.
    pub kind: String,
    /// Who or what did it, and why.
    pub why: String,
}

/// All versions and the champion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    format: String,
    major: u32,
    minor: u32,
    /// Counts the forms of this registry.
    #[serde(default)]
    pub sequence: u64,
    pub champion: Option<u64>,
    /// By number.
    pub versions: BTreeMap<u64, Version>,
    /// Changes of the champion, oldest first.
    #[serde(default)]
    pub reigns: Vec<Reign>,
}

/// A registry that says no.
#[derive(Debug, Error)]
pub enum RegistryError {
    #[error("model registry: {0}")]
    Unreadable(String),
    #[error(
        "model registry has form {major}.{minor}, this build reads {MAJOR}.x; hint: use the version of prescale that wrote it, or a place of its own"
    )]
    Major { major: u32, minor: u32 },
    #[error(
        "model registry has form {MAJOR}.{minor}, this build writes {MAJOR}.{MINOR}: it can be read, not changed; hint: upgrade prescale"
    )]
    Newer { minor: u32 },
    #[error("model version {number} is not in the registry; it has {known}")]
    Unknown { number: u64, known: String },
    #[error("model version {number} is the champion already")]
    Champion { number: u64 },
    #[error("there is no version to roll back to: {why}")]
    NoFormer { why: &'static str },
    #[error("model version {number}: {error}")]
    Model { number: u64, error: ForecastCrateError },
    #[error("model version {number} is damaged: {error}")]
    Damaged { number: u64, error: String },
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            format: FORMAT.into(),
            major: MAJOR,
            minor: MINOR,
            sequence: 0,
            champion: None,
            versions: BTreeMap::new(),
            reigns: Vec::new(),
        }
    }
}

impl Registry {
    /// Reads what [`Registry::encode`] wrote.
    ///
    /// # Errors
    /// Bytes of another format or another major form, or damaged ones.
    pub fn decode(bytes: &[u8]) -> Result<Self, RegistryError> {
        #[derive(Deserialize)]
        struct Mark {
            format: String,
            major: u32,
            minor: u32,
        }
        let broken = |error: serde_json::Error| RegistryError::Unreadable(error.to_string());
        let mark: Mark = serde_json::from_slice(bytes).map_err(broken)?;
        if mark.format != FORMAT {
            return Err(RegistryError::Unreadable(format!("format is `{}`, expected `{FORMAT}`", mark.format)));
        }
        if mark.major != MAJOR {
            return Err(RegistryError::Major { major: mark.major, minor: mark.minor });
        }
        let registry: Self = serde_json::from_slice(bytes).map_err(broken)?;
        let named = registry.versions.iter().all(|(number, version)| *number == version.number);
        if !named || registry.champion.is_some_and(|champion| !registry.versions.contains_key(&champion)) {
            return Err(RegistryError::Unreadable("its numbers contradict each other".into()));
        }
        Ok(registry)
    }

    /// The registry as bytes.
    ///
    /// # Errors
    /// It was written in a newer form, parts of which would be lost.
    pub fn encode(&self) -> Result<Vec<u8>, RegistryError> {
        if self.minor > MINOR {
            return Err(RegistryError::Newer { minor: self.minor });
        }
        serde_json::to_vec_pretty(&Self { sequence: self.sequence + 1, ..self.clone() })
            .map_err(|error| RegistryError::Unreadable(error.to_string()))
    }

    /// Adds a version under the next number, which `version.number` becomes, and says it.
    pub fn add(&mut self, version: Version) -> u64 {
        let number = self.versions.last_key_value().map_or(1, |(last, _)| last + 1);
        self.versions.insert(number, Version { number, ..version });
        number
    }

    /// The version of a number.
    ///
    /// # Errors
    /// There is none.
    pub fn version(&self, number: u64) -> Result<&Version, RegistryError> {
        self.versions.get(&number).ok_or_else(|| {
            let known = match (self.versions.first_key_value(), self.versions.last_key_value()) {
                (Some((first, _)), Some((last, _))) => format!("{first} to {last}"),
                _ => "none".to_owned(),
            };
            RegistryError::Unknown { number, known }
        })
    }

    /// Makes a version the champion.
    ///
    /// # Errors
    /// There is no such version, or it is the champion already.
    pub fn promote(&mut self, number: u64, at: Timestamp, why: &str) -> Result<(), RegistryError> {
        self.crown(number, at, "promoted", why)
    }

    /// Makes the champion before the present one the champion again, and says which that is. Rolling back twice goes back
    /// by two.
    ///
    /// # Errors
    /// There was none before.
    pub fn roll_back(&mut self, at: Timestamp, why: &str) -> Result<u64, RegistryError> {
        let Some(champion) = self.champion else { return Err(RegistryError::NoFormer { why: "there is no champion" }) };
        // Champions as a stack: promotion puts one on it, rolling back takes one off.
        let mut stack: Vec<u64> = Vec::new();
        for reign in &self.reigns {
            if reign.kind == "rolled-back" && stack.iter().rev().nth(1) == Some(&reign.version) {
                stack.pop();
            } else {
                stack.push(reign.version);
            }
        }
        let former =
            stack.iter().rev().skip(1).find(|number| **number != champion && self.versions.contains_key(number));
        let Some(former) = former.copied() else {
            return Err(RegistryError::NoFormer { why: "the champion is the first" });
        };
        self.crown(former, at, "rolled-back", why)?;
        Ok(former)
    }

    fn crown(&mut self, number: u64, at: Timestamp, kind: &str, why: &str) -> Result<(), RegistryError> {
        self.version(number)?;
        if self.champion == Some(number) {
            return Err(RegistryError::Champion { number });
        }
        self.champion = Some(number);
        self.reigns.push(Reign { version: number, at, kind: kind.into(), why: why.into() });
        Ok(())
    }
}

impl Version {
    /// Checks bytes that were read against what was registered: they are whole, and a model of this kind that this build
    /// reads.
    ///
    /// # Errors
    /// They are damaged, or of a format or version that this build does not read.
    pub fn check(&self, bytes: &[u8], hash: &str) -> Result<(), RegistryError> {
        let damaged = |error: String| RegistryError::Damaged { number: self.number, error };
        if bytes.len() as u64 != self.bytes {
            return Err(damaged(format!("it has {} bytes, {} were written", bytes.len(), self.bytes)));
        }
        if hash != self.hash {
            return Err(damaged("its bytes are not those that were written".into()));
        }
        let loaded = self.model.load(bytes).map(drop);
        loaded.map_err(|error| RegistryError::Model { number: self.number, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version() -> Version {
        Version {
            number: 0,
            model: ModelKind::Lstm,
            parent: None,
            created_at: Timestamp::from_millis(1_750_032_000_000),
            reason: "initial".into(),
            training: Training::default(),
            metrics: BTreeMap::from([("loss".into(), 0.9)]),
            config: serde_json::json!({"hidden": 32}),
            object: "versions/1".into(),
            bytes: 3,
            hash: "abc".into(),
        }
    }

    fn of(count: u64) -> Registry {
        let mut registry = Registry::default();
        for _ in 0..count {
            registry.add(version());
        }
        registry
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn what_is_written_is_read_back_and_counted() {
        let mut registry = of(2);
        registry.promote(2, at(1), "better").unwrap();
        let read = Registry::decode(&registry.encode().unwrap()).unwrap();
        assert_eq!(read, Registry { sequence: 1, ..registry });
    }

    #[test]
    fn a_newer_minor_form_is_read_and_not_written_another_major_one_is_refused() {
        let text = String::from_utf8(of(1).encode().unwrap()).unwrap();
        let newer = text.replace("\"minor\": 0", "\"minor\": 3, \"new\": [1]");
        let read = Registry::decode(newer.as_bytes()).unwrap();
        assert_eq!(read.versions.len(), 1);
        let error = read.encode().unwrap_err().to_string();
        assert!(error.contains("form 1.3") && error.contains("upgrade"), "{error}");
        let refused =
            |from: &str, to: &str| Registry::decode(text.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert!(refused("\"major\": 1", "\"major\": 2").contains("form 2.0, this build reads 1.x"));
        assert!(refused(FORMAT, "other").contains("format is `other`"));
        assert!(refused("\"number\": 1", "\"number\": 7").contains("contradict"));
        assert!(Registry::decode(b"{").is_err());
    }

    #[test]
    fn rolling_back_goes_through_the_champions_in_the_order_they_reigned() {
        let mut registry = of(4);
        assert!(matches!(registry.roll_back(at(0), ""), Err(RegistryError::NoFormer { .. })));
        registry.promote(1, at(1), "").unwrap();
        assert!(matches!(registry.roll_back(at(1), ""), Err(RegistryError::NoFormer { .. })));
        assert!(matches!(registry.promote(1, at(1), ""), Err(RegistryError::Champion { number: 1 })));
        registry.promote(3, at(2), "").unwrap();
        registry.promote(4, at(3), "").unwrap();
        assert_eq!(registry.roll_back(at(4), "regressed").unwrap(), 3);
        assert_eq!(registry.roll_back(at(5), "again").unwrap(), 1);
        assert!(registry.roll_back(at(6), "").is_err());
        registry.promote(2, at(7), "").unwrap();
        assert_eq!(registry.roll_back(at(8), "").unwrap(), 1);
        assert_eq!(registry.champion, Some(1));
        assert_eq!(registry.reigns.len(), 7);
        let error = registry.promote(9, at(9), "").unwrap_err().to_string();
        assert_eq!(error, "model version 9 is not in the registry; it has 1 to 4");
    }

    #[test]
    fn bytes_that_are_not_those_registered_are_refused() {
        let model = ModelKind::Lstm.build(1).save();
        let version = Version { bytes: model.len() as u64, ..version() };
        version.check(&model, "abc").unwrap();
        let refused = |bytes: &[u8], hash: &str| version.check(bytes, hash).unwrap_err().to_string();
        assert!(refused(&model[1..], "abc").contains("bytes"));
        assert!(refused(&model, "abd").contains("not those that were written"));
        let other = String::from_utf8(model.clone()).unwrap().replace("\"version\":", "\"version\":9");
        let other = Version { bytes: other.len() as u64, ..version.clone() }.check(other.as_bytes(), "abc");
        assert!(other.unwrap_err().to_string().contains("format version 9"), "newer models are named");
    }
}
