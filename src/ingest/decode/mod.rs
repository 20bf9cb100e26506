//! Raw bytes to Arrow. Rule: pure, and each record ends in exactly one of `rows`, `bad` and `tombstones`.

mod avro;
mod column;
mod digits;
mod format;
mod frame;
mod json;
mod metadata;
mod moment;
mod plain;
mod protobuf;
mod raw;
mod registered;
mod slot;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use thiserror::Error;

pub use format::{AvroEncoding, Format, ProtobufEncoding};
pub use metadata::{MetadataField, UnknownMetadataField};
pub use registered::{RegisteredSchema, SchemaKind};

use crate::RawBatch;
use avro::AvroPlan;
use json::JsonPlan;
use protobuf::ProtobufPlan;

/// A table that can't be decoded into.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("column `{column}`: type {found} can't be read from format `{format}`\nhint: {hint}")]
    Type { column: String, found: String, format: &'static str, hint: &'static str },
    #[error(
        "format `{format}` needs exactly one {expected} column, found {found} columns\nhint: make the others GENERATED or METADATA columns"
    )]
    OneColumn { format: &'static str, expected: &'static str, found: usize },
    #[error("the configured schema of the records can't be used: {error}\nhint: {hint}")]
    Schema { error: String, hint: &'static str },
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

/// Turns raw batches of one table into Arrow batches. Where records name their writer's schema by an id, the caller looks
/// up the ids that [`Decoder::lacks`] says, tells them by [`Decoder::learn`], and decodes then.
#[derive(Clone, Debug)]
pub struct Decoder {
    schema: SchemaRef,
    plan: Plan,
}

#[derive(Clone, Debug)]
enum Plan {
    Json(JsonPlan),
    RawString,
    RawBytes,
    Avro(AvroPlan),
    Protobuf(ProtobufPlan),
}

pub(crate) const BAD_DECODE: &str = "decode";
pub(crate) const BAD_SCHEMA: &str = "schema";

impl Decoder {
    /// A decoder into the table's physical columns (neither generated nor metadata).
    pub fn try_new(format: &Format, physical_schema: SchemaRef) -> Result<Self, DecodeError> {
        let plan = match format {
            Format::Json => Plan::Json(JsonPlan::try_new(&physical_schema, 0)?),
            Format::FramedJson => Plan::Json(JsonPlan::try_new(&physical_schema, frame::FRAME)?),
            Format::RawString => {
                one_column(&physical_schema, "raw_string", &DataType::Utf8, "TEXT")?;
                Plan::RawString
            }
            Format::RawBytes => {
                one_column(&physical_schema, "raw_bytes", &DataType::Binary, "BYTEA")?;
                Plan::RawBytes
            }
            Format::Avro(encoding) => Plan::Avro(AvroPlan::try_new(encoding, &physical_schema)?),
            Format::Protobuf(encoding) => Plan::Protobuf(ProtobufPlan::try_new(encoding, &physical_schema)?),
        };
        Ok(Self { schema: physical_schema, plan })
    }

    /// The same decoder for a reader who wants nothing of the columns that are `false` in `kept`, by place. Their values are
    /// checked as before, and a record with a bad one is bad; but where the format gains by it, they may hold anything.
    #[must_use]
    pub fn keeping(mut self, kept: &[bool]) -> Self {
        match &mut self.plan {
            Plan::Json(plan) => plan.keep(kept),
            Plan::RawString | Plan::RawBytes | Plan::Avro(_) | Plan::Protobuf(_) => {}
        }
        self
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The schema ids that records of the batch name and that the decoder was not told of, ascending.
    pub fn lacks(&self, raw: &RawBatch) -> Vec<u32> {
        match &self.plan {
            Plan::Avro(plan) => plan.lacks(raw),
            Plan::Protobuf(plan) => plan.lacks(raw),
            Plan::Json(_) | Plan::RawString | Plan::RawBytes => Vec::new(),
        }
    }

    /// Takes in what the registry says of an id; `None` = it has no such schema.
    pub fn learn(&mut self, id: u32, schema: Option<&RegisteredSchema>) {
        match &mut self.plan {
            Plan::Avro(plan) => plan.learn(id, schema),
            Plan::Protobuf(plan) => plan.learn(id, schema),
            Plan::Json(_) | Plan::RawString | Plan::RawBytes => {}
        }
    }

    /// Ids that the registry did not have are lacking again: somebody may have registered them since.
    pub fn forget_unknown(&mut self) {
        match &mut self.plan {
            Plan::Avro(plan) => plan.forget_unknown(),
            Plan::Protobuf(plan) => plan.forget_unknown(),
            Plan::Json(_) | Plan::RawString | Plan::RawBytes => {}
        }
    }

    /// Decodes a batch; what can't be decoded is named in `bad` and does not disturb the rest.
    pub fn decode(&self, raw: &RawBatch) -> Decoded {
        match &self.plan {
            Plan::Json(plan) => plan.decode(&self.schema, raw),
            Plan::RawString => raw::texts(&self.schema, raw),
            Plan::RawBytes => raw::bytes(&self.schema, raw),
            Plan::Avro(plan) => plan.decode(&self.schema, raw),
            Plan::Protobuf(plan) => plan.decode(&self.schema, raw),
        }
    }
}

fn one_column(
    schema: &SchemaRef,
    format: &'static str,
    data_type: &DataType,
    name: &'static str,
) -> Result<(), DecodeError> {
    let [field] = &schema.fields()[..] else {
        return Err(DecodeError::OneColumn { format, expected: name, found: schema.fields().len() });
    };
    if field.data_type() != data_type {
        let (column, found) = (field.name().clone(), field.data_type().to_string());
        let hint = if *data_type == DataType::Utf8 { "declare it TEXT" } else { "declare it BYTEA" };
        return Err(DecodeError::Type { column, found, format, hint });
    }
    Ok(())
}

/// The records of a batch as text, with UTF-8 checked once for all of them where that is enough.
struct Texts<'a> {
    raw: &'a RawBatch,
    /// Bytes of a frame before each text.
    frame: usize,
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
    fn new(raw: &'a RawBatch, frame: usize) -> Self {
        let all = std::str::from_utf8(&raw.payload).ok();
        Self { raw, frame, all, tombstones: raw.tombstones.iter().peekable(), next: 0 }
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
        let mut start = if index == 0 { 0 } else { self.raw.ends[index - 1] };
        if self.frame > 0 {
            if let Err(error) = frame::unframe(&self.raw.payload[start..end]) {
                return Some((number, Text::Invalid(error)));
            }
            start += self.frame;
        }
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
