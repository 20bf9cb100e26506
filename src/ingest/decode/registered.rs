//! Schemas that a registry knows by id. Rule: an id stands for one schema for ever; that the registry does not know one is
//! remembered until it is asked for again.

use std::collections::BTreeMap;

use super::{BAD_DECODE, BAD_SCHEMA};

/// The languages that a registry has schemas in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaKind {
    Avro,
    Json,
    Protobuf,
}

impl SchemaKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Protobuf => "PROTOBUF",
        }
    }
}

/// A schema as its registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredSchema {
    pub kind: SchemaKind,
    pub text: String,
    /// What the text refers to, by the name that it uses: a type in Avro, a file in Protobuf.
    pub references: Vec<(String, RegisteredSchema)>,
}

/// Writer schemas by id, as far as they have been asked for, each as what its records are decoded by.
#[derive(Clone, Debug)]
pub(super) struct Registered<T> {
    kind: SchemaKind,
    by_id: BTreeMap<u32, Known<T>>,
}

#[derive(Clone, Debug)]
enum Known<T> {
    Plan(T),
    /// It can't be read into the table; why.
    Unfit(String),
    /// The registry has no schema of this id.
    Unknown,
}

impl<T> Registered<T> {
    pub(super) fn of(kind: SchemaKind) -> Self {
        Self { kind, by_id: BTreeMap::new() }
    }

    pub(super) fn lacks(&self, ids: Vec<u32>) -> Vec<u32> {
        ids.into_iter().filter(|id| !self.by_id.contains_key(id)).collect()
    }

    pub(super) fn learn(
        &mut self,
        id: u32,
        schema: Option<&RegisteredSchema>,
        plan: impl FnOnce(&RegisteredSchema) -> Result<T, String>,
    ) {
        let known = match schema {
            None => Known::Unknown,
            Some(schema) if schema.kind != self.kind => {
                Known::Unfit(format!("it is of type {}, expected {}", schema.kind.name(), self.kind.name()))
            }
            Some(schema) => plan(schema).map_or_else(Known::Unfit, Known::Plan),
        };
        self.by_id.insert(id, known);
    }

    pub(super) fn forget_unknown(&mut self) {
        self.by_id.retain(|_, known| !matches!(known, Known::Unknown));
    }

    /// How the records of `id` are decoded, or the reason and the error of the dead letters that they become.
    pub(super) fn plan(&self, id: u32) -> Result<&T, (&'static str, String)> {
        match self.by_id.get(&id) {
            Some(Known::Plan(plan)) => Ok(plan),
            Some(Known::Unfit(why)) => Err((BAD_SCHEMA, format!("schema {id}: {why}"))),
            Some(Known::Unknown) => Err((BAD_DECODE, format!("schema {id} is not in the registry"))),
            None => Err((BAD_DECODE, format!("schema {id} was not looked up in the registry"))),
        }
    }
}
