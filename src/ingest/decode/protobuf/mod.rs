//! Protobuf messages into columns. Rule: columns are the message's own fields by name; a field that no column wants is passed
//! over, and what is absent is what every Protobuf reader takes it for: the default, or NULL where presence is known.
//!
//! A message is walked once over its bytes, field by field, into one slot a column that borrows from it; only when all slots
//! are sound are they appended, so a bad record leaves no trace in the columns.

mod message;
mod schema;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use prost_reflect::MessageDescriptor;

use super::column::{Column, Planned};
use super::registered::Registered;
use super::slot::Slot;
use super::{
    BAD_DECODE, BAD_SCHEMA, BadRecord, DecodeError, Decoded, ProtobufEncoding, RegisteredSchema, SchemaKind, frame,
};
use crate::RawBatch;
use message::{Fault, MessagePlan};

#[derive(Clone, Debug)]
pub(super) struct ProtobufPlan {
    columns: Arc<[Planned]>,
    encoding: Encoding,
}

#[derive(Clone, Debug)]
enum Encoding {
    Message(Arc<MessagePlan>),
    /// By id the messages of the schema's file, in order.
    Registry(Registered<Vec<MessageDescriptor>>),
}

/// The message type of a framed record: its schema's id, and the indexes of it in the file.
type Place = (u32, Vec<usize>);

impl ProtobufPlan {
    pub(super) fn try_new(encoding: &ProtobufEncoding, schema: &SchemaRef) -> Result<Self, DecodeError> {
        let hint = "use BOOLEAN, an integer type, FLOAT, DOUBLE, TEXT, BYTEA, or TIMESTAMP without a zone";
        let columns: Arc<[Planned]> = Planned::all(schema, "protobuf", hint, |_| true)?;
        let encoding = match encoding {
            ProtobufEncoding::Registry => Encoding::Registry(Registered::of(SchemaKind::Protobuf)),
            ProtobufEncoding::Message { descriptor_set, message } => {
                let plan = schema::in_set(descriptor_set, message)
                    .and_then(|descriptor| MessagePlan::of(&descriptor, &columns));
                let hint = "the set is what `protoc --include_imports --descriptor_set_out` writes, the message is named with its package, and every column that is NOT NULL needs a field of its name and type";
                Encoding::Message(Arc::new(plan.map_err(|error| DecodeError::Schema { error, hint })?))
            }
        };
        Ok(Self { columns, encoding })
    }

    pub(super) fn lacks(&self, raw: &RawBatch) -> Vec<u32> {
        match &self.encoding {
            Encoding::Registry(known) => known.lacks(frame::ids(raw)),
            Encoding::Message(_) => Vec::new(),
        }
    }

    pub(super) fn learn(&mut self, id: u32, schema: Option<&RegisteredSchema>) {
        if let Encoding::Registry(known) = &mut self.encoding {
            known.learn(id, schema, schema::of_text);
        }
    }

    pub(super) fn forget_unknown(&mut self) {
        if let Encoding::Registry(known) = &mut self.encoding {
            known.forget_unknown();
        }
    }

    pub(super) fn decode(&self, schema: &SchemaRef, raw: &RawBatch) -> Decoded {
        let mut bad = Vec::new();
        let found = self.messages(raw, &mut bad);
        let mut columns: Vec<Column> =
            self.columns.iter().map(|planned| Column::new(planned.kind, planned.nullable, raw.len())).collect();
        let mut rows = Vec::with_capacity(raw.len());
        let mut slots: Vec<Slot<'_>> = self.columns.iter().map(|_| Slot::Missing).collect();
        for (index, plan, body) in &found {
            match plan.read(body, &self.columns, &mut slots) {
                Ok(()) => {
                    for (column, slot) in columns.iter_mut().zip(&slots) {
                        column.append(slot);
                    }
                    rows.push(*index);
                }
                Err((reason, error)) => bad.push(BadRecord { index: *index, reason, error }),
            }
        }
        bad.sort_by_key(|bad| bad.index);
        let arrays = columns.into_iter().map(Column::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
            .expect("each column got one value of its type a row, NULL only where the column may be");
        Decoded { batch, rows, bad, tombstones: raw.tombstones.len() }
    }

    /// The records that are messages, and how each is read.
    fn messages<'a>(&self, raw: &'a RawBatch, bad: &mut Vec<BadRecord>) -> Vec<(u32, Arc<MessagePlan>, &'a [u8])> {
        let mut plans: BTreeMap<Place, Result<Arc<MessagePlan>, String>> = BTreeMap::new();
        let mut found = Vec::with_capacity(raw.len());
        for (index, bytes) in frame::records(raw) {
            let plan = match (&self.encoding, bytes) {
                (_, Err(error)) => Err((BAD_DECODE, error)),
                (Encoding::Message(plan), Ok(bytes)) => Ok((Arc::clone(plan), bytes)),
                (Encoding::Registry(known), Ok(bytes)) => self.framed(known, &mut plans, bytes),
            };
            match plan {
                Ok((plan, body)) => found.push((index, plan, body)),
                Err((reason, error)) => bad.push(BadRecord { index, reason, error }),
            }
        }
        found
    }

    fn framed<'a>(
        &self,
        known: &Registered<Vec<MessageDescriptor>>,
        plans: &mut BTreeMap<Place, Result<Arc<MessagePlan>, String>>,
        bytes: &'a [u8],
    ) -> Result<(Arc<MessagePlan>, &'a [u8]), Fault> {
        let framed = frame::unframe(bytes).map_err(|error| (BAD_DECODE, error))?;
        let messages = known.plan(framed.id)?;
        let (path, body) = schema::message_path(framed.body).map_err(|error| (BAD_DECODE, error))?;
        let id = framed.id;
        let plan = plans.entry((id, path)).or_insert_with_key(|(_, path)| {
            let descriptor = schema::at_path(messages, path)?;
            MessagePlan::of(&descriptor, &self.columns).map(Arc::new)
        });
        match plan {
            Ok(plan) => Ok((Arc::clone(plan), body)),
            Err(why) => Err((BAD_SCHEMA, format!("schema {id}: {why}"))),
        }
    }
}

#[cfg(test)]
mod tests;
