//! Avro records into columns. Rule: columns are found by name; a field that no column wants is passed over, a column that no
//! field fills is NULL, and a record that can't be read leaves no trace in the others.
//!
//! The bytes are read by arrow-avro, all records of one writer's schema together. It stops in the middle of a record that is
//! damaged, with half of it in its columns; those before it are then read again by a fresh reader, so that any record is read
//! at most twice. What it read is checked and cast column by column.

mod container;
mod convert;
mod writer;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::SchemaRef;

use super::column::Planned;
use super::registered::Registered;
use super::{
    AvroEncoding, BAD_DECODE, BAD_SCHEMA, BadRecord, DecodeError, Decoded, RegisteredSchema, SchemaKind, frame,
};
use crate::RawBatch;
use convert::{Faults, convert};
use writer::WriterPlan;

#[derive(Clone, Debug)]
pub(super) struct AvroPlan {
    columns: Arc<[Planned]>,
    encoding: Encoding,
}

#[derive(Clone, Debug)]
enum Encoding {
    Container,
    Datum(Arc<WriterPlan>),
    Registry(Registered<Arc<WriterPlan>>),
}

/// Records of one writer's schema, with their index in the batch.
struct Section<'a> {
    plan: Arc<WriterPlan>,
    records: Vec<(u32, Cow<'a, [u8]>)>,
}

/// Rows that were read, in the table's columns.
struct Read {
    columns: Vec<ArrayRef>,
    rows: Vec<u32>,
}

impl AvroPlan {
    pub(super) fn try_new(encoding: &AvroEncoding, schema: &SchemaRef) -> Result<Self, DecodeError> {
        let hint = "use BOOLEAN, an integer type, FLOAT, DOUBLE, TEXT, BYTEA, TIMESTAMP without a zone, or DATE";
        let columns: Arc<[Planned]> = Planned::all(schema, "avro", hint, |_| true)?;
        let encoding = match encoding {
            AvroEncoding::Container => Encoding::Container,
            AvroEncoding::Registry => Encoding::Registry(Registered::of(SchemaKind::Avro)),
            AvroEncoding::Datum(None) => {
                let plan = WriterPlan::of_columns(&columns);
                let hint = "name the schema that the records were written with in the configuration";
                Encoding::Datum(Arc::new(plan.map_err(|error| DecodeError::Schema { error, hint })?))
            }
            AvroEncoding::Datum(Some(text)) => {
                let plan = WriterPlan::parse(text, &[], &columns);
                let hint = "every column that is NOT NULL needs a field of its name and type";
                Encoding::Datum(Arc::new(plan.map_err(|error| DecodeError::Schema { error, hint })?))
            }
        };
        Ok(Self { columns, encoding })
    }

    pub(super) fn lacks(&self, raw: &RawBatch) -> Vec<u32> {
        match &self.encoding {
            Encoding::Registry(known) => known.lacks(frame::ids(raw)),
            Encoding::Container | Encoding::Datum(_) => Vec::new(),
        }
    }

    pub(super) fn learn(&mut self, id: u32, schema: Option<&RegisteredSchema>) {
        if let Encoding::Registry(known) = &mut self.encoding {
            let columns = &self.columns;
            known
                .learn(id, schema, |schema| WriterPlan::parse(&schema.text, &schema.references, columns).map(Arc::new));
        }
    }

    pub(super) fn forget_unknown(&mut self) {
        if let Encoding::Registry(known) = &mut self.encoding {
            known.forget_unknown();
        }
    }

    pub(super) fn decode(&self, schema: &SchemaRef, raw: &RawBatch) -> Decoded {
        let mut bad = Vec::new();
        let mut read = Vec::new();
        for section in self.sections(raw, &mut bad) {
            let records: Vec<(u32, &[u8])> = section.records.iter().map(|(index, bytes)| (*index, &**bytes)).collect();
            self.read(&section.plan, &records, &mut read, &mut bad);
        }
        bad.sort_by_key(|bad| bad.index);
        let (columns, rows) = in_order(schema, read);
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)
            .expect("each column was cast to its type, and rows with NULL where there may be none were taken out");
        Decoded { batch, rows, bad, tombstones: raw.tombstones.len() }
    }

    /// Sorts records by the schema that they were written with.
    fn sections<'a>(&self, raw: &'a RawBatch, bad: &mut Vec<BadRecord>) -> Vec<Section<'a>> {
        let mut sections: Vec<Section<'a>> = Vec::new();
        let mut by_id: BTreeMap<u32, usize> = BTreeMap::new();
        let mut by_text: HashMap<&'a [u8], Result<usize, String>> = HashMap::new();
        let mut add = |plan: Arc<WriterPlan>| {
            sections.push(Section { plan, records: Vec::new() });
            sections.len() - 1
        };
        let mut placed = Vec::new();
        for (index, bytes) in frame::records(raw) {
            let mut fail = |reason, error| bad.push(BadRecord { index, reason, error });
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(error) => {
                    fail(BAD_DECODE, error);
                    continue;
                }
            };
            match &self.encoding {
                Encoding::Datum(plan) => {
                    let section = *by_id.entry(0).or_insert_with(|| add(Arc::clone(plan)));
                    placed.push((section, index, Cow::Borrowed(bytes)));
                }
                Encoding::Registry(known) => match frame::unframe(bytes) {
                    Err(error) => fail(BAD_DECODE, error),
                    Ok(framed) => match known.plan(framed.id) {
                        Err((reason, error)) => fail(reason, error),
                        Ok(plan) => {
                            let section = *by_id.entry(framed.id).or_insert_with(|| add(Arc::clone(plan)));
                            placed.push((section, index, Cow::Borrowed(framed.body)));
                        }
                    },
                },
                Encoding::Container => match container::open(bytes) {
                    Err(error) => fail(BAD_DECODE, error),
                    Ok(container) => {
                        let section = by_text.entry(container.schema).or_insert_with(|| {
                            let text = std::str::from_utf8(container.schema).map_err(|error| error.to_string())?;
                            Ok(add(Arc::new(WriterPlan::parse(text, &[], &self.columns)?)))
                        });
                        match section {
                            Ok(section) => placed.push((*section, index, container.datum)),
                            Err(error) => fail(BAD_SCHEMA, error.clone()),
                        }
                    }
                },
            }
        }
        for (section, index, bytes) in placed {
            sections[section].records.push((index, bytes));
        }
        sections
    }

    /// Reads records of one schema; what can't be read is named in `bad`.
    fn read(&self, plan: &WriterPlan, records: &[(u32, &[u8])], out: &mut Vec<Read>, bad: &mut Vec<BadRecord>) {
        let mut left = records;
        while !left.is_empty() {
            match plan.read(left) {
                Ok(arrays) => {
                    self.cast(plan, &arrays, left, out, bad);
                    return;
                }
                Err((None, _)) if left.len() > 1 => {
                    let (first, second) = left.split_at(left.len() / 2);
                    self.read(plan, first, out, bad);
                    left = second;
                }
                Err((at, error)) => {
                    let at = at.unwrap_or_default();
                    self.read(plan, &left[..at], out, bad);
                    bad.push(BadRecord { index: left[at].0, reason: BAD_DECODE, error });
                    left = &left[at + 1..];
                }
            }
        }
    }

    /// Casts what was read to the table's columns, and takes out the rows that don't fit.
    fn cast(
        &self,
        plan: &WriterPlan,
        arrays: &[ArrayRef],
        records: &[(u32, &[u8])],
        out: &mut Vec<Read>,
        bad: &mut Vec<BadRecord>,
    ) {
        let mut faults = Faults::default();
        let columns: Vec<ArrayRef> = self
            .columns
            .iter()
            .zip(plan.sources())
            .map(|(column, source)| {
                let found = source.map(|(place, from)| (&arrays[place], from));
                convert(column, found, records.len(), &mut faults)
            })
            .collect();
        let mut rows: Vec<u32> = records.iter().map(|(index, _)| *index).collect();
        let columns = match faults.mask(rows.len()) {
            None => columns,
            Some(mask) => {
                let kept = |array: &ArrayRef| {
                    arrow::compute::filter(array, &mask).expect("the mask is as long as each column")
                };
                let columns = columns.iter().map(kept).collect();
                bad.extend(faults.by_row.into_iter().map(|(row, (reason, error))| BadRecord {
                    index: records[row].0,
                    reason,
                    error,
                }));
                let mut keep = mask.values().iter();
                rows.retain(|_| keep.next().unwrap_or(false));
                columns
            }
        };
        out.push(Read { columns, rows });
    }
}

/// All rows in the order of their records.
fn in_order(schema: &SchemaRef, mut read: Vec<Read>) -> (Vec<ArrayRef>, Vec<u32>) {
    if read.len() == 1
        && let Some(Read { columns, rows }) = read.pop()
    {
        return (columns, rows);
    }
    let rows: Vec<u32> = read.iter().flat_map(|part| &part.rows).copied().collect();
    let mut order: Vec<u32> = (0..).take(rows.len()).collect();
    order.sort_by_key(|place| rows[*place as usize]);
    let in_place = order.is_sorted();
    let places = UInt32Array::from(order);
    let columns = schema.fields().iter().enumerate().map(|(column, field)| {
        let parts: Vec<&dyn Array> = read.iter().map(|part| part.columns[column].as_ref()).collect();
        if parts.is_empty() {
            return arrow::array::new_empty_array(field.data_type());
        }
        let whole = concat(&parts).expect("the parts of a column have one type");
        if in_place { whole } else { take(&whole, &places, None).expect("each place is one of a row") }
    });
    let columns = columns.collect();
    let mut rows = rows;
    rows.sort_unstable();
    (columns, rows)
}

#[cfg(test)]
mod tests;
