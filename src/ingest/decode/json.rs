//! JSON objects straight into columns. Rule: as Arroyo's reader: unknown fields are passed over, a missing field is NULL
//! where the column may be, and a value of another type spoils its record only.
//!
//! Records that are plain are read by [`super::plain`] straight into the columns, which are cut back where it gives up. All
//! others are read by a general parser into one slot a column that borrows from the record; only when all slots are sound
//! are they appended. So a bad record leaves no trace in the columns. Fields mostly come in the same order in every record:
//! the name at each place is first compared with that of the record before.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::Deserializer as _;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde_json::Deserializer;

use super::moment::Minute;
use super::plain::{Cursor, Lead};
use super::{BAD_DECODE, BAD_SCHEMA, BadRecord, DecodeError, Decoded, Text, Texts};
use crate::RawBatch;
use crate::decode::column::{Column, Kind, Planned};
use crate::decode::slot::{CellSeed, Slot};

#[derive(Clone, Debug)]
pub(super) struct JsonPlan {
    columns: Vec<Planned>,
    /// By column; otherwise its values are only checked.
    kept: Vec<bool>,
    by_name: HashMap<String, usize>,
    /// Bytes of a frame before each object.
    frame: usize,
}

impl JsonPlan {
    pub(super) fn try_new(schema: &SchemaRef, frame: usize) -> Result<Self, DecodeError> {
        let hint = "use BOOLEAN, an integer type, FLOAT, DOUBLE, TEXT, TIMESTAMP without a zone, or DATE";
        let columns: Vec<Planned> = Planned::all(schema, "json", hint, |kind| kind != Kind::Bytes)?;
        let kept = vec![true; columns.len()];
        let by_name = columns.iter().enumerate().map(|(index, column)| (column.name.clone(), index)).collect();
        Ok(Self { columns, kept, by_name, frame })
    }

    /// Columns that are `false` in `kept` are checked and not kept.
    pub(super) fn keep(&mut self, kept: &[bool]) {
        self.kept.iter_mut().zip(kept).for_each(|(mine, kept)| *mine = *kept);
    }

    pub(super) fn decode(&self, schema: &SchemaRef, raw: &RawBatch) -> Decoded {
        self.decode_by(schema, raw, true)
    }

    /// With `quick`, plain records are read the quick way; the result is the same.
    pub(super) fn decode_by(&self, schema: &SchemaRef, raw: &RawBatch, quick: bool) -> Decoded {
        let new = |(&Planned { kind, nullable, .. }, kept): (&Planned, &bool)| {
            if *kept { Column::new(kind, nullable, raw.len()) } else { Column::checked(kind, nullable) }
        };
        let mut columns: Vec<Column> = self.columns.iter().zip(&self.kept).map(new).collect();
        let (mut rows, mut bad) = (Vec::with_capacity(raw.len()), Vec::new());
        let mut record = Record {
            plan: self,
            slots: self.columns.iter().map(|_| Slot::Missing).collect(),
            order: Vec::new(),
            minute: Minute::default(),
        };
        for (index, text) in Texts::new(raw, self.frame) {
            let outcome = match text {
                Text::Tombstone => continue,
                Text::Invalid(error) => Err((BAD_DECODE, error)),
                Text::Valid(text) if quick && record.read_plain(text, &mut columns, rows.len()).is_some() => {
                    rows.push(index);
                    continue;
                }
                Text::Valid(text) => {
                    columns.iter_mut().for_each(|column| column.truncate(rows.len()));
                    record.read(text)
                }
            };
            match outcome {
                Ok(()) => {
                    for (column, slot) in columns.iter_mut().zip(&record.slots) {
                        column.append(slot);
                    }
                    rows.push(index);
                }
                Err((reason, error)) => bad.push(BadRecord { index, reason, error }),
            }
        }
        let arrays = columns.into_iter().map(Column::finish).collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
            .expect("each column got one value of its type a row, NULL only where the column may be");
        Decoded { batch, rows, bad, tombstones: raw.tombstones.len() }
    }
}

/// One record at a time: its slots, and the order in which the fields of the last one came.
struct Record<'p, 'a> {
    plan: &'p JsonPlan,
    slots: Vec<Slot<'a>>,
    order: Vec<Place>,
    minute: Minute,
}

struct Place {
    name: String,
    column: Option<usize>,
    /// How it mostly stands in the record.
    lead: Option<Lead>,
}

impl<'a> Record<'_, 'a> {
    /// Fills the slots.
    fn read(&mut self, text: &'a str) -> Result<(), (&'static str, String)> {
        self.slots.fill_with(|| Slot::Missing);
        let mut deserializer = Deserializer::from_str(text);
        deserializer.deserialize_map(Fields(self)).map_err(|error| (BAD_DECODE, error.to_string()))?;
        deserializer.end().map_err(|error| (BAD_DECODE, error.to_string()))?;
        for (planned, slot) in self.plan.columns.iter().zip(&self.slots) {
            let fault = match slot {
                Slot::Wrong(fault) => fault.as_str(),
                Slot::Missing if !planned.nullable => "it is NOT NULL and missing",
                Slot::Null if !planned.nullable => "it is NOT NULL and null",
                _ => continue,
            };
            return Err((BAD_SCHEMA, format!("column `{}`: {fault}", planned.name)));
        }
        Ok(())
    }

    /// Appends the record to columns of `row` rows if it is plain; `None` = it is not, and there may be more in them.
    fn read_plain(&mut self, text: &'a str, columns: &mut [Column], row: usize) -> Option<()> {
        let mut cursor = Cursor::new(text);
        let (mut place, mut left) = (0, columns.len());
        loop {
            let expected = self.order.get(place);
            let expected = expected.filter(|place| place.lead.as_ref().is_some_and(|lead| cursor.pass(lead)));
            let column = match expected.map(|place| place.column) {
                Some(column) => column,
                None if place > 0 && !cursor.either(b',', b'}')? => break cursor.at_end()?,
                None => {
                    if place == 0 {
                        cursor.expect(b'{')?;
                    }
                    cursor.blanks();
                    let column = self.column(place, cursor.plain_text()?);
                    cursor.expect(b':')?;
                    column
                }
            };
            match column {
                Some(index) => {
                    columns[index].read(&mut cursor, row, &mut self.minute)?;
                    left -= 1;
                }
                None => cursor.pass_value()?,
            }
            place += 1;
        }
        // No column has been filled twice.
        if left > 0 {
            columns.iter_mut().try_for_each(|column| column.pad(row))?;
        }
        Some(())
    }

    /// The column of a field's name that comes at `place`; `None` = not a column.
    fn column(&mut self, place: usize, name: &str) -> Option<usize> {
        /// Places that are remembered, whatever a record holds.
        const PLACES_MAX: usize = 256;
        match self.order.get_mut(place) {
            Some(expected) if expected.name == name => expected.column,
            Some(expected) => {
                expected.name.clear();
                expected.name.push_str(name);
                expected.column = self.plan.by_name.get(name).copied();
                expected.lead = Lead::new(place == 0, name);
                expected.column
            }
            None => {
                let column = self.plan.by_name.get(name).copied();
                if self.order.len() < PLACES_MAX {
                    self.order.push(Place { name: name.to_owned(), column, lead: Lead::new(place == 0, name) });
                }
                column
            }
        }
    }
}

struct Fields<'r, 'p, 'a>(&'r mut Record<'p, 'a>);

impl<'a> Visitor<'a> for Fields<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut place = 0;
        while let Some(column) = map.next_key_seed(Name { record: self.0, place })? {
            place += 1;
            match column {
                Some(index) => {
                    let kind = self.0.plan.columns[index].kind;
                    map.next_value_seed(CellSeed { kind, slot: &mut self.0.slots[index] })?;
                }
                None => drop(map.next_value::<serde::de::IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Name<'r, 'p, 'a> {
    record: &'r mut Record<'p, 'a>,
    place: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_, '_, '_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_, '_, '_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.record.column(self.place, name))
    }
}
