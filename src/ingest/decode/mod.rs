//! Raw bytes to Arrow. Rule: pure, and each record ends in exactly one of `rows`, `bad` and `tombstones`.

mod column;
mod digits;
mod json;
mod metadata;
mod moment;
mod plain;
mod raw_string;
mod slot;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use metadata::{MetadataField, UnknownMetadataField};

use crate::RawBatch;
use json::JsonPlan;

/// How the bytes of a record are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object a record.
    Json,
    /// The whole record is the text of the only column.
    RawString,
}

/// A table that can't be decoded into.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("column `{column}`: type {found} can't be read from format `{format}`\nhint: {hint}")]
    Type { column: String, found: String, format: &'static str, hint: &'static str },
    #[error(
        "format `raw_string` needs exactly one TEXT column, found {found} columns\nhint: make the others GENERATED or METADATA columns"
    )]
    RawStringColumns { found: usize },
}

/// A record that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// Its index in the raw batch.
    pub index: u32,
    /// `decode`: not the format at all. `schema`: the format, but not what the table declares.
    pub reason: &'static str,
    pub error: String,
}

/// What came of a raw batch.
#[derive(Debug)]
pub struct Decoded {
    pub batch: RecordBatch,
    /// For each row of `batch` the index of its record in the raw batch, ascending.
    pub rows: Vec<u32>,
    /// Ascending by index.
    pub bad: Vec<BadRecord>,
    /// Records without a payload.
    pub tombstones: usize,
}

/// Turns raw batches of one table into Arrow batches.
#[derive(Clone, Debug)]
pub struct Decoder {
    schema: SchemaRef,
    plan: Plan,
}

#[derive(Clone, Debug)]
enum Plan {
    Json(JsonPlan),
    RawString,
}

pub(crate) const BAD_DECODE: &str = "decode";
pub(crate) const BAD_SCHEMA: &str = "schema";

impl Decoder {
    /// A decoder into the table's physical columns (neither generated nor metadata).
    pub fn try_new(format: Format, physical_schema: SchemaRef) -> Result<Self, DecodeError> {
        let plan = match format {
            Format::Json => Plan::Json(JsonPlan::try_new(&physical_schema)?),
            Format::RawString => {
                let [field] = &physical_schema.fields()[..] else {
                    return Err(DecodeError::RawStringColumns { found: physical_schema.fields().len() });
                };
                if field.data_type() != &DataType::Utf8 {
                    let (column, found) = (field.name().clone(), field.data_type().to_string());
                    let hint = "declare it TEXT";
                    return Err(DecodeError::Type { column, found, format: "raw_string", hint });
                }
                Plan::RawString
            }
        };
        Ok(Self { schema: physical_schema, plan })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes a batch; what can't be decoded is named in `bad` and does not disturb the rest.
    pub fn decode(&self, raw: &RawBatch) -> Decoded {
        match &self.plan {
            Plan::Json(plan) => plan.decode(&self.schema, raw),
            Plan::RawString => raw_string::decode(&self.schema, raw),
        }
    }
}

/// The records of a batch as text, with UTF-8 checked once for all of them where that is enough.
struct Texts<'a> {
    raw: &'a RawBatch,
    all: Option<&'a str>,
    tombstones: std::iter::Peekable<std::slice::Iter<'a, usize>>,
    next: usize,
}

enum Text<'a> {
    Valid(&'a str),
    Invalid(String),
    Tombstone,
}

impl<'a> Texts<'a> {
    fn new(raw: &'a RawBatch) -> Self {
        let all = std::str::from_utf8(&raw.payload).ok();
        Self { raw, all, tombstones: raw.tombstones.iter().peekable(), next: 0 }
    }
}

impl<'a> Iterator for Texts<'a> {
    type Item = (u32, Text<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next;
        let end = *self.raw.ends.get(index)?;
        self.next += 1;
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        if self.tombstones.next_if(|tombstone| **tombstone == index).is_some() {
            return Some((number, Text::Tombstone));
        }
        // Arrow's text columns count in i32.
        if i32::try_from(end).is_err() {
            return Some((number, Text::Invalid("the batch is larger than 2 GiB".to_owned())));
        }
        let start = if index == 0 { 0 } else { self.raw.ends[index - 1] };
        // A record that is not text by itself may be so together with the next: the cut is then inside a character.
        let text = match self.all.and_then(|all| all.get(start..end)) {
            Some(text) => Text::Valid(text),
            None => match std::str::from_utf8(&self.raw.payload[start..end]) {
                Ok(text) => Text::Valid(text),
                Err(error) => Text::Invalid(error.to_string()),
            },
        };
        Some((number, text))
    }
}

#[cfg(test)]
mod tests;
