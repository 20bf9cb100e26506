//! Where objects lie: S3, or a folder. Rule: `swap` replaces an object only if nobody else has since it was read; all
//! other objects are written once, under names of their own.

use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig,
    UpdateVersion,
};

use crate::StoreError;

/// One attempt at a request, and all attempts at it. Whoever calls tries again after that, and says so.
const ATTEMPT: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(3);
const ATTEMPTS: RetryConfig = RetryConfig {
    backoff: BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(1), base: 2.0 },
    max_retries: 2,
    retry_timeout: Duration::from_secs(15),
};

/// Which content of an object was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version(String);

impl Version {
    /// That of no content.
    pub(crate) fn never() -> Self {
        Self("\"0\"".to_owned())
    }
}

/// What became of a conditional put.
#[derive(Debug)]
pub(crate) enum Swapped {
    /// Done; this is the new content's version.
    Yes(Version),
    /// Somebody else was first.
    No,
}

/// A prefix that objects have names below.
#[derive(Debug)]
pub(crate) enum Place {
    S3 { store: Box<AmazonS3>, bucket: String, prefix: String },
    Files { folder: PathBuf },
}

impl Place {
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        let refuse = |error: &str| StoreError::Refused { place: url.to_owned(), error: error.to_owned() };
        if let Some(folder) = url.strip_prefix("file://") {
            if !folder.starts_with('/') {
                return Err(refuse("is not an absolute path such as file:///var/lib/prescale"));
            }
            return Ok(Self::Files { folder: PathBuf::from(folder) });
        }
        let Some(rest) = url.strip_prefix("s3://") else {
            return Err(refuse("is not a place such as s3://bucket/prefix"));
        };
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(refuse("names no bucket"));
        }
        let client = ClientOptions::new().with_timeout(ATTEMPT).with_connect_timeout(CONNECT);
        // An endpoint without TLS is one that the operator has written so.
        let mut builder = AmazonS3Builder::from_env()
            .with_client_options(client.with_allow_http(true))
            .with_bucket_name(bucket)
            .with_retry(ATTEMPTS);
        for option in options.split('&').filter(|option| !option.is_empty()) {
            builder = match option.split_once('=') {
                Some(("endpoint", endpoint)) => builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint),
                Some(("region", region)) => builder.with_region(region),
                _ => return Err(refuse(&format!("`{option}` is none of endpoint=URL and region=NAME"))),
            };
        }
        let store = builder.build().map_err(|error| refuse(&chain(&error)))?;
        let (bucket, prefix) = (bucket.to_owned(), prefix.trim_matches('/').to_owned());
        Ok(Self::S3 { store: Box::new(store), bucket, prefix })
    }

    /// An object and its version; `None` where there is none.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<(Vec<u8>, Version)>, StoreError> {
        match self {
            Self::S3 { store, .. } => {
                let fail = |error| self.fail(name, &error);
                let found = match store.get(&self.key(name)).await {
                    Err(Error::NotFound { .. }) => return Ok(None),
                    other => other.map_err(fail)?,
                };
                let version = Version(found.meta.e_tag.clone().unwrap_or_default());
                Ok(Some((found.bytes().await.map_err(fail)?.to_vec(), version)))
            }
            Self::Files { folder } => match fs::read(folder.join(name)) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(self.fail_file(name, &error)),
                Ok(bytes) => {
                    let version = version_of(&bytes);
                    Ok(Some((bytes, version)))
                }
            },
        }
    }

    /// Writes an object under a new name.
    pub(crate) async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        match self {
            Self::S3 { store, .. } => {
                store.put(&self.key(name), bytes.into()).await.map_err(|error| self.fail(name, &error))?;
            }
            Self::Files { folder } => {
                replace(folder, name, &bytes).map_err(|error| self.fail_file(name, &error))?;
            }
        }
        Ok(())
    }

    /// Writes an object if its content is still `expected`, or if it is still not there where that is `None`.
    pub(crate) async fn swap(
        &self,
        name: &str,
        bytes: Vec<u8>,
        expected: Option<&Version>,
    ) -> Result<Swapped, StoreError> {
        match self {
            Self::S3 { store, .. } => {
                if expected.is_some_and(|Version(tag)| tag.is_empty()) {
                    let error = "the server gives objects no ETag, which conditional writes need".to_owned();
                    return Err(StoreError::Refused { place: self.name(name), error });
                }
                let mode = expected.map_or(PutMode::Create, |Version(tag)| {
                    PutMode::Update(UpdateVersion { e_tag: Some(tag.clone()), version: None })
                });
                match store.put_opts(&self.key(name), bytes.into(), PutOptions::from(mode)).await {
                    Ok(done) => Ok(Swapped::Yes(Version(done.e_tag.unwrap_or_default()))),
                    Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Swapped::No),
                    Err(error) => Err(self.fail(name, &error)),
                }
            }
            Self::Files { folder } => {
                let swapped = swap_file(folder, name, &bytes, expected);
                swapped.map_err(|error| self.fail_file(name, &error))
            }
        }
    }

    /// Names of all objects whose names start with `folder/`.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        match self {
            Self::S3 { store, .. } => {
                let found: Vec<_> = store
                    .list(Some(&self.key(folder)))
                    .try_collect()
                    .await
                    .map_err(|error| self.fail(folder, &error))?;
                let name = |key: &Key| key.filename().map(|name| format!("{folder}/{name}"));
                Ok(found.iter().filter_map(|object| name(&object.location)).collect())
            }
            Self::Files { folder: root } => match fs::read_dir(root.join(folder)) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(self.fail_file(folder, &error)),
                Ok(entries) => {
                    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
                    Ok(entries.flatten().filter_map(name).map(|name| format!("{folder}/{name}")).collect())
                }
            },
        }
    }

    /// Deletes an object; one that is gone already is deleted.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), StoreError> {
        match self {
            Self::S3 { store, .. } => match store.delete(&self.key(name)).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.fail(name, &error)),
            },
            Self::Files { folder } => match fs::remove_file(folder.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(self.fail_file(name, &error)),
                _ => Ok(()),
            },
        }
    }

    /// Where the object of that name is, for who has to look at it.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{self}/{name}")
    }

    fn key(&self, name: &str) -> Key {
        match self {
            Self::S3 { prefix, .. } => Key::from(format!("{prefix}/{name}")),
            Self::Files { .. } => Key::from(name),
        }
    }

    fn fail(&self, name: &str, error: &Error) -> StoreError {
        let (place, text) = (self.name(name), chain(error));
        match error {
            // Of a put this is the bucket: a key that is missing is no error.
            Error::NotFound { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. }
            | Error::InvalidPath { .. } => StoreError::Refused { place, error: text },
            _ => StoreError::Unreachable { place, error: text },
        }
    }

    fn fail_file(&self, name: &str, error: &std::io::Error) -> StoreError {
        StoreError::File { path: self.name(name), error: error.to_string() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix, .. } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix, .. } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Files { folder } => write!(f, "file://{}", folder.display()),
        }
    }
}

fn version_of(bytes: &[u8]) -> Version {
    Version(blake3::hash(bytes).to_string())
}

/// A folder has no conditional put: a lock that every process takes, and the system gives back when one dies, makes one.
fn swap_file(folder: &Path, name: &str, bytes: &[u8], expected: Option<&Version>) -> std::io::Result<Swapped> {
    fs::create_dir_all(folder)?;
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    lock.lock()?;
    let present = match fs::read(folder.join(name)) {
        Ok(bytes) => Some(version_of(&bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if present.as_ref() != expected {
        return Ok(Swapped::No);
    }
    replace(folder, name, bytes)?;
    Ok(Swapped::Yes(version_of(bytes)))
}

/// Writes a file so that it is there whole or as before, also after the machine has lost its power.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent)?;
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, &path)?;
    File::open(parent)?.sync_all()
}

/// An error with all that it was caused by, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
