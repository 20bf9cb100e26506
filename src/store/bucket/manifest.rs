//! The one object that says what a bucket holds, in bytes. Rule: bytes that are not exactly what was written are refused,
//! whatever was changed in them.

use std::collections::BTreeMap;

use crate::Table;

/// First bytes of every manifest; the last one counts the forms.
const MAGIC: &[u8] = b"prescale state\x01";
const HASH: usize = 32;

/// All keys, and where their values are.
pub(super) type Held = BTreeMap<(Table, Vec<u8>), Value>;

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// In the manifest: a small one needs no object of its own.
    Here(Vec<u8>),
    /// In an object that is written once and never changed.
    There { object: String, length: u64, hash: [u8; HASH] },
}

/// What a store holds at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Counts the manifests of a store.
    pub(super) sequence: u64,
    /// Counts the processes that opened it.
    pub(super) generation: u64,
    /// The process that wrote it.
    pub(super) owner: String,
    pub(super) held: Held,
}

impl Manifest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        put(&mut out, self.owner.as_bytes());
        out.extend_from_slice(&(self.held.len() as u64).to_le_bytes());
        for ((table, key), value) in &self.held {
            put(&mut out, table.name().as_bytes());
            put(&mut out, key);
            match value {
                Value::Here(bytes) => {
                    out.push(0);
                    put(&mut out, bytes);
                }
                Value::There { object, length, hash } => {
                    out.push(1);
                    put(&mut out, object.as_bytes());
                    out.extend_from_slice(&length.to_le_bytes());
                    out.extend_from_slice(hash);
                }
            }
        }
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out
    }

    /// The manifest, or what is wrong with its bytes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let Some((content, hash)) = bytes.len().checked_sub(HASH).and_then(|at| bytes.split_at_checked(at)) else {
            return Err("it is cut off");
        };
        if blake3::hash(content).as_bytes() != hash {
            return Err("its bytes are not those that were written");
        }
        let mut left = Reader(content);
        if left.take(MAGIC.len()) != Some(MAGIC) {
            return Err("it is in no form that this version knows");
        }
        left.manifest().filter(|_| left.0.is_empty()).ok_or("it is in no form that this version knows")
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn manifest(&mut self) -> Option<Manifest> {
        let (sequence, generation, owner) = (self.number()?, self.number()?, self.text()?.to_owned());
        let mut held = Held::new();
        for _ in 0..self.number()? {
            let key = (Table::named(self.text()?)?, self.bytes()?.to_vec());
            let value = match self.take(1)? {
                [0] => Value::Here(self.bytes()?.to_vec()),
                [1] => Value::There {
                    object: self.text()?.to_owned(),
                    length: self.number()?,
                    hash: self.take(HASH)?.try_into().ok()?,
                },
                _ => return None,
            };
            held.insert(key, value);
        }
        Some(Manifest { sequence, generation, owner, held })
    }
}
