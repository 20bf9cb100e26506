//! The columns that records can be read into, and their builders. Rule: `append` adds exactly one value.

use std::fmt;
use std::sync::Arc;

use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::array::{ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, PrimitiveArray, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, FieldRef, SchemaRef, TimeUnit};

use super::DecodeError;
use super::moment::Minute;
use super::plain::Cursor;
use super::slot::Slot;

/// A column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float32,
    Float64,
    Text,
    Bytes,
    Timestamp(TimeUnit),
    Date32,
}

impl Kind {
    /// `None` = no record can be read into this type.
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int8 => Self::Int8,
            DataType::Int16 => Self::Int16,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::UInt8 => Self::UInt8,
            DataType::UInt16 => Self::UInt16,
            DataType::UInt32 => Self::UInt32,
            DataType::UInt64 => Self::UInt64,
            DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Utf8 => Self::Text,
            DataType::Binary => Self::Bytes,
            DataType::Timestamp(unit, None) => Self::Timestamp(*unit),
            DataType::Date32 => Self::Date32,
            _ => return None,
        })
    }

    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int8 => DataType::Int8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Timestamp(unit) => DataType::Timestamp(unit, None),
            Self::Date32 => DataType::Date32,
        }
    }

    /// The values of the integer types.
    pub(super) fn range(self) -> Option<(i128, i128)> {
        Some(match self {
            Self::Int8 => (i8::MIN.into(), i8::MAX.into()),
            Self::Int16 => (i16::MIN.into(), i16::MAX.into()),
            Self::Int32 | Self::Date32 => (i32::MIN.into(), i32::MAX.into()),
            Self::Int64 => (i64::MIN.into(), i64::MAX.into()),
            Self::UInt8 => (0, u8::MAX.into()),
            Self::UInt16 => (0, u16::MAX.into()),
            Self::UInt32 => (0, u32::MAX.into()),
            Self::UInt64 => (0, u64::MAX.into()),
            _ => return None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "true or false",
            Self::Int8 => "a TINYINT",
            Self::Int16 => "a SMALLINT",
            Self::Int32 => "an INT",
            Self::Int64 => "a BIGINT",
            Self::UInt8 => "a TINYINT UNSIGNED",
            Self::UInt16 => "a SMALLINT UNSIGNED",
            Self::UInt32 => "an INT UNSIGNED",
            Self::UInt64 => "a BIGINT UNSIGNED",
            Self::Float32 | Self::Float64 => "a number",
            Self::Text => "a text",
            Self::Bytes => "bytes",
            Self::Timestamp(_) => "a time such as 2026-11-23T08:00:00Z",
            Self::Date32 => "a date such as 2026-11-23",
        })
    }
}

/// A column of a table that records are read into.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
}

impl Planned {
    /// The columns of a table; `hint` says which types `format` has.
    pub(super) fn all<P: FromIterator<Self>>(
        schema: &SchemaRef,
        format: &'static str,
        hint: &'static str,
        has: impl Fn(Kind) -> bool,
    ) -> Result<P, DecodeError> {
        let planned = |field: &FieldRef| {
            let kind = Kind::of(field.data_type()).filter(|kind| has(*kind)).ok_or_else(|| DecodeError::Type {
                column: field.name().clone(),
                found: field.data_type().to_string(),
                format,
                hint,
            })?;
            Ok(Self { name: field.name().clone(), kind, nullable: field.is_nullable() })
        };
        schema.fields().iter().map(planned).collect()
    }
}

/// A column that is being built.
pub(super) struct Column {
    kind: Kind,
    nullable: bool,
    values: Values,
    /// Rows without a value, ascending; `values` has anything there.
    nulls: Vec<usize>,
}

macro_rules! values {
    ($($variant:ident: $arrow:ty),+ $(,)?) => {
        enum Values {
            $($variant(Vec<<$arrow as ArrowPrimitiveType>::Native>),)+
            Bool(Vec<bool>),
            /// `ends[i]` is where row i's text ends; it starts where the one before ends, the first at 0.
            Text { ends: Vec<i32>, bytes: Vec<u8> },
            /// As of texts.
            Bytes { ends: Vec<i32>, bytes: Vec<u8> },
            /// So many values that nobody wants.
            Checked(usize),
        }

        impl Values {
            fn len(&self) -> usize {
                match self {
                    $(Self::$variant(values) => values.len(),)+
                    Self::Bool(values) => values.len(),
                    Self::Text { ends, .. } | Self::Bytes { ends, .. } => ends.len(),
                    Self::Checked(count) => *count,
                }
            }

            fn truncate(&mut self, rows: usize) {
                match self {
                    $(Self::$variant(values) => values.truncate(rows),)+
                    Self::Bool(values) => values.truncate(rows),
                    Self::Text { ends, bytes } | Self::Bytes { ends, bytes } => {
                        ends.truncate(rows);
                        bytes.truncate(last_end(ends));
                    }
                    Self::Checked(count) => *count = rows.min(*count),
                }
            }

            fn push_any(&mut self) {
                match self {
                    $(Self::$variant(values) => values.push(Default::default()),)+
                    Self::Bool(values) => values.push(false),
                    Self::Text { ends, bytes } | Self::Bytes { ends, bytes } => push_bytes(ends, bytes, b""),
                    Self::Checked(count) => *count += 1,
                }
            }

            /// Zeros, false or empty texts in all rows; memory that nobody looks into costs next to nothing.
            fn blank(kind: Kind, rows: usize) -> Self {
                match Self::with_capacity(kind, 0) {
                    $(Self::$variant(_) => Self::$variant(vec![Default::default(); rows]),)+
                    Self::Bool(_) => Self::Bool(vec![false; rows]),
                    Self::Text { .. } => Self::Text { ends: vec![0; rows], bytes: Vec::new() },
                    Self::Bytes { .. } => Self::Bytes { ends: vec![0; rows], bytes: Vec::new() },
                    Self::Checked(_) => Self::Checked(rows),
                }
            }

            fn finish(self, kind: Kind, nulls: Option<NullBuffer>) -> ArrayRef {
                match self {
                    $(Self::$variant(values) => Arc::new(PrimitiveArray::<$arrow>::new(values.into(), nulls)),)+
                    Self::Bool(values) => Arc::new(BooleanArray::new(values.into(), nulls)),
                    Self::Text { ends, bytes } => {
                        Arc::new(StringArray::new(offsets(ends), Buffer::from_vec(bytes), nulls))
                    }
                    Self::Bytes { ends, bytes } => {
                        Arc::new(BinaryArray::new(offsets(ends), Buffer::from_vec(bytes), nulls))
                    }
                    Self::Checked(rows) => Self::blank(kind, rows).finish(kind, None),
                }
            }
        }
    };
}

values! {
    Int8: Int8Type,
    Int16: Int16Type,
    Int32: Int32Type,
    Int64: Int64Type,
    UInt8: UInt8Type,
    UInt16: UInt16Type,
    UInt32: UInt32Type,
    UInt64: UInt64Type,
    Float32: Float32Type,
    Float64: Float64Type,
    Seconds: TimestampSecondType,
    Millis: TimestampMillisecondType,
    Micros: TimestampMicrosecondType,
    Nanos: TimestampNanosecondType,
    Date32: Date32Type,
}

fn last_end(ends: &[i32]) -> usize {
    ends.last().map_or(0, |end| *end as usize)
}

fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(std::iter::once(0).chain(ends).collect::<Vec<i32>>().into())
}

fn push_text(ends: &mut Vec<i32>, bytes: &mut Vec<u8>, text: &str) {
    push_bytes(ends, bytes, text.as_bytes());
}

/// A batch's payload is below 2 GiB, and no value is longer than where it came from.
fn push_bytes(ends: &mut Vec<i32>, bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend_from_slice(value);
    ends.push(bytes.len() as i32);
}

impl Values {
    fn with_capacity(kind: Kind, rows: usize) -> Self {
        macro_rules! values {
            ($variant:ident) => {
                Values::$variant(Vec::with_capacity(rows))
            };
        }
        match kind {
            Kind::Bool => values!(Bool),
            Kind::Int8 => values!(Int8),
            Kind::Int16 => values!(Int16),
            Kind::Int32 => values!(Int32),
            Kind::Int64 => values!(Int64),
            Kind::UInt8 => values!(UInt8),
            Kind::UInt16 => values!(UInt16),
            Kind::UInt32 => values!(UInt32),
            Kind::UInt64 => values!(UInt64),
            Kind::Float32 => values!(Float32),
            Kind::Float64 => values!(Float64),
            Kind::Text => {
                Values::Text { ends: Vec::with_capacity(rows), bytes: Vec::with_capacity(rows.saturating_mul(16)) }
            }
            Kind::Bytes => {
                Values::Bytes { ends: Vec::with_capacity(rows), bytes: Vec::with_capacity(rows.saturating_mul(16)) }
            }
            Kind::Timestamp(TimeUnit::Second) => values!(Seconds),
            Kind::Timestamp(TimeUnit::Millisecond) => values!(Millis),
            Kind::Timestamp(TimeUnit::Microsecond) => values!(Micros),
            Kind::Timestamp(TimeUnit::Nanosecond) => values!(Nanos),
            Kind::Date32 => values!(Date32),
        }
    }
}

impl Column {
    pub(super) fn new(kind: Kind, nullable: bool, rows: usize) -> Self {
        Self { kind, nullable, values: Values::with_capacity(kind, rows), nulls: Vec::new() }
    }

    /// A column whose values are checked and not kept.
    pub(super) fn checked(kind: Kind, nullable: bool) -> Self {
        Self { kind, nullable, values: Values::Checked(0), nulls: Vec::new() }
    }

    /// Reads the value of a row in the quick way; `None` = it is not plain, or the row has its value already.
    pub(super) fn read(&mut self, cursor: &mut Cursor<'_>, row: usize, minute: &mut Minute) -> Option<()> {
        match &mut self.values {
            Values::Text { ends, bytes } if ends.len() == row => {
                if let Some(text) = cursor.plain_text() {
                    push_text(ends, bytes, text);
                    return Some(());
                }
            }
            Values::Int32(values) if values.len() == row => {
                if let Some(value) = cursor.whole() {
                    values.push(i32::try_from(value).ok()?);
                    return Some(());
                }
            }
            Values::Int64(values) if values.len() == row => {
                if let Some(value) = cursor.whole() {
                    values.push(value);
                    return Some(());
                }
            }
            Values::Float64(values) if values.len() == row => {
                if let Some(value) = cursor.decimal() {
                    values.push(value);
                    return Some(());
                }
            }
            Values::Millis(values) if values.len() == row => {
                if let Some(value) = cursor.moment(TimeUnit::Millisecond, minute) {
                    values.push(value);
                    return Some(());
                }
            }
            Values::Nanos(values) if values.len() == row => {
                if let Some(value) = cursor.moment(TimeUnit::Nanosecond, minute) {
                    values.push(value);
                    return Some(());
                }
            }
            Values::Checked(count) if *count == row && cursor.pass_plain(self.kind, minute) => {
                *count += 1;
                return Some(());
            }
            values if values.len() != row => return None,
            _ => {}
        }
        self.read_any(cursor)
    }

    #[inline(never)]
    fn read_any(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let slot = cursor.value(self.kind)?;
        if matches!(slot, Slot::Null) && !self.nullable {
            return None;
        }
        self.append(&slot);
        Some(())
    }

    /// NULL for a row that has no value yet; `None` = the column may not be NULL.
    pub(super) fn pad(&mut self, row: usize) -> Option<()> {
        if self.values.len() == row {
            if !self.nullable {
                return None;
            }
            self.append_null();
        }
        Some(())
    }

    /// Forgets what comes after some rows.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.nulls.truncate(self.nulls.partition_point(|row| *row < rows));
    }

    fn append_null(&mut self) {
        if !matches!(self.values, Values::Checked(_)) {
            self.nulls.push(self.values.len());
        }
        self.values.push_any();
    }

    /// Adds what the slot holds. The slot was filled for this column's kind, so its value is in the column's range;
    /// NULL stands for everything else.
    pub(super) fn append(&mut self, slot: &Slot<'_>) {
        match (&mut self.values, slot) {
            (Values::Bool(values), Slot::Bool(value)) => values.push(*value),
            (Values::Int8(values), Slot::Int(value)) => values.push(*value as i8),
            (Values::Int16(values), Slot::Int(value)) => values.push(*value as i16),
            (Values::Int32(values), Slot::Int(value)) => values.push(*value as i32),
            (Values::Int64(values), Slot::Int(value)) => values.push(*value),
            (Values::UInt8(values), Slot::Int(value)) => values.push(*value as u8),
            (Values::UInt16(values), Slot::Int(value)) => values.push(*value as u16),
            (Values::UInt32(values), Slot::Int(value)) => values.push(*value as u32),
            (Values::UInt64(values), Slot::UInt(value)) => values.push(*value),
            (Values::Float32(values), Slot::Single(value)) => values.push(*value),
            (Values::Float64(values), Slot::Float(value)) => values.push(*value),
            (Values::Text { ends, bytes }, Slot::Text(value)) => push_text(ends, bytes, value),
            (Values::Text { ends, bytes }, Slot::Unescaped(value)) => push_text(ends, bytes, value),
            (Values::Bytes { ends, bytes }, Slot::Bytes(value)) => push_bytes(ends, bytes, value),
            (Values::Seconds(values), Slot::Int(value)) => values.push(*value),
            (Values::Millis(values), Slot::Int(value)) => values.push(*value),
            (Values::Micros(values), Slot::Int(value)) => values.push(*value),
            (Values::Nanos(values), Slot::Int(value)) => values.push(*value),
            (Values::Date32(values), Slot::Int(value)) => values.push(*value as i32),
            _ => self.append_null(),
        }
    }

    pub(super) fn finish(self) -> ArrayRef {
        let nulls = (!self.nulls.is_empty()).then(|| {
            let mut valid = BooleanBufferBuilder::new(self.values.len());
            valid.append_n(self.values.len(), true);
            self.nulls.iter().for_each(|row| valid.set_bit(*row, false));
            NullBuffer::new(valid.finish())
        });
        self.values.finish(self.kind, nulls)
    }
}
