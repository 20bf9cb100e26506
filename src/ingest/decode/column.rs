//! The columns that records can be read into, and their builders. Rule: `append` adds exactly one value.

use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::builder::{BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow::array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow::datatypes::{DataType, TimeUnit};

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

macro_rules! columns {
    ($($variant:ident: $builder:ty),+ $(,)?) => {
        /// A column that is being built.
        pub(super) enum Column { $($variant($builder)),+ }

        impl Column {
            pub(super) fn finish(self) -> ArrayRef {
                match self { $(Self::$variant(mut builder) => Arc::new(builder.finish())),+ }
            }

            fn append_null(&mut self) {
                match self { $(Self::$variant(builder) => builder.append_null()),+ }
            }
        }
    };
}

columns! {
    Bool: BooleanBuilder,
    Int8: PrimitiveBuilder<Int8Type>,
    Int16: PrimitiveBuilder<Int16Type>,
    Int32: PrimitiveBuilder<Int32Type>,
    Int64: PrimitiveBuilder<Int64Type>,
    UInt8: PrimitiveBuilder<UInt8Type>,
    UInt16: PrimitiveBuilder<UInt16Type>,
    UInt32: PrimitiveBuilder<UInt32Type>,
    UInt64: PrimitiveBuilder<UInt64Type>,
    Float32: PrimitiveBuilder<Float32Type>,
    Float64: PrimitiveBuilder<Float64Type>,
    Text: StringBuilder,
    Bytes: BinaryBuilder,
    Seconds: PrimitiveBuilder<TimestampSecondType>,
    Millis: PrimitiveBuilder<TimestampMillisecondType>,
    Micros: PrimitiveBuilder<TimestampMicrosecondType>,
    Nanos: PrimitiveBuilder<TimestampNanosecondType>,
    Date32: PrimitiveBuilder<Date32Type>,
}

impl Column {
    pub(super) fn new(kind: Kind, rows: usize) -> Self {
        macro_rules! primitive {
            ($variant:ident) => {
                Self::$variant(PrimitiveBuilder::with_capacity(rows))
            };
        }
        match kind {
            Kind::Bool => Self::Bool(BooleanBuilder::with_capacity(rows)),
            Kind::Int8 => primitive!(Int8),
            Kind::Int16 => primitive!(Int16),
            Kind::Int32 => primitive!(Int32),
            Kind::Int64 => primitive!(Int64),
            Kind::UInt8 => primitive!(UInt8),
            Kind::UInt16 => primitive!(UInt16),
            Kind::UInt32 => primitive!(UInt32),
            Kind::UInt64 => primitive!(UInt64),
            Kind::Float32 => primitive!(Float32),
            Kind::Float64 => primitive!(Float64),
            Kind::Text => Self::Text(StringBuilder::with_capacity(rows, rows * 16)),
            Kind::Bytes => Self::Bytes(BinaryBuilder::with_capacity(rows, rows * 16)),
            Kind::Timestamp(TimeUnit::Second) => primitive!(Seconds),
            Kind::Timestamp(TimeUnit::Millisecond) => primitive!(Millis),
            Kind::Timestamp(TimeUnit::Microsecond) => primitive!(Micros),
            Kind::Timestamp(TimeUnit::Nanosecond) => primitive!(Nanos),
            Kind::Date32 => primitive!(Date32),
        }
    }

    /// Adds what the slot holds. The slot was filled for this column's kind, so its value is in the column's range;
    /// NULL stands for everything else.
    pub(super) fn append(&mut self, slot: &Slot<'_>) {
        match (self, slot) {
            (Self::Bool(builder), Slot::Bool(value)) => builder.append_value(*value),
            (Self::Int8(builder), Slot::Int(value)) => builder.append_value(*value as i8),
            (Self::Int16(builder), Slot::Int(value)) => builder.append_value(*value as i16),
            (Self::Int32(builder), Slot::Int(value)) => builder.append_value(*value as i32),
            (Self::Int64(builder), Slot::Int(value)) => builder.append_value(*value),
            (Self::UInt8(builder), Slot::Int(value)) => builder.append_value(*value as u8),
            (Self::UInt16(builder), Slot::Int(value)) => builder.append_value(*value as u16),
            (Self::UInt32(builder), Slot::Int(value)) => builder.append_value(*value as u32),
            (Self::UInt64(builder), Slot::UInt(value)) => builder.append_value(*value),
            (Self::Float32(builder), Slot::Single(value)) => builder.append_value(*value),
            (Self::Float64(builder), Slot::Float(value)) => builder.append_value(*value),
            (Self::Text(builder), Slot::Text(value)) => builder.append_value(value),
            (Self::Text(builder), Slot::Unescaped(value)) => builder.append_value(value),
            (Self::Bytes(builder), Slot::Bytes(value)) => builder.append_value(value),
            (Self::Seconds(builder), Slot::Int(value)) => builder.append_value(*value),
            (Self::Millis(builder), Slot::Int(value)) => builder.append_value(*value),
            (Self::Micros(builder), Slot::Int(value)) => builder.append_value(*value),
            (Self::Nanos(builder), Slot::Int(value)) => builder.append_value(*value),
            (Self::Date32(builder), Slot::Int(value)) => builder.append_value(*value as i32),
            (column, _) => column.append_null(),
        }
    }
}
