//! From what an Avro field holds to what a column holds. Rule: the promotions of Avro, and integers into narrower columns as
//! long as the value fits; a value that does not fit spoils its record only.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, PrimitiveArray, StringArray, StringBuilder,
    new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};

use super::{BAD_DECODE, BAD_SCHEMA};
use crate::decode::column::{Kind, Planned};

/// What a field holds, whatever its nullability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    /// An enum, as the number of one of these symbols.
    Symbol(Arc<[String]>),
    Date,
    /// Time since 1970 in units of so many nanoseconds.
    Moment(i64),
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::Text => "string",
            Self::Symbol(_) => "enum",
            Self::Date => "date",
            Self::Moment(1) => "timestamp-nanos",
            Self::Moment(1_000) => "timestamp-micros",
            Self::Moment(_) => "timestamp-millis",
        })
    }
}

impl From {
    /// Whether values may go into columns of this kind.
    pub(super) fn fits(&self, kind: Kind) -> bool {
        let whole = kind.range().is_some() && kind != Kind::Date32;
        match self {
            Self::Null => true,
            Self::Boolean => kind == Kind::Bool,
            Self::Int | Self::Long => whole || matches!(kind, Kind::Float32 | Kind::Float64),
            Self::Float => matches!(kind, Kind::Float32 | Kind::Float64),
            Self::Double => kind == Kind::Float64,
            Self::Bytes | Self::Text => matches!(kind, Kind::Bytes | Kind::Text),
            Self::Symbol(_) => kind == Kind::Text,
            Self::Date => whole || kind == Kind::Date32,
            Self::Moment(_) => whole || matches!(kind, Kind::Timestamp(_)),
        }
    }
}

/// What is wrong with rows: the first fault of each.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) by_row: BTreeMap<usize, (&'static str, String)>,
}

impl Faults {
    /// The rows that have none; `None` = all.
    pub(super) fn mask(&self, rows: usize) -> Option<BooleanArray> {
        if self.by_row.is_empty() {
            return None;
        }
        let mut mask = BooleanBufferBuilder::new(rows);
        mask.append_n(rows, true);
        self.by_row.keys().for_each(|row| mask.set_bit(*row, false));
        Some(BooleanArray::new(mask.finish(), None))
    }

    fn add(&mut self, row: usize, reason: &'static str, column: &Planned, error: impl fmt::Display) {
        self.by_row.entry(row).or_insert_with(|| (reason, format!("column `{}`: {error}", column.name)));
    }
}

/// The values of `column`; where there is a fault they are NULL.
pub(super) fn convert(
    column: &Planned,
    found: Option<(&ArrayRef, &From)>,
    rows: usize,
    faults: &mut Faults,
) -> ArrayRef {
    let data_type = column.kind.data_type();
    let Some((array, from)) = found else { return new_null_array(&data_type, rows) };
    let array = match (from, column.kind) {
        (From::Null, _) => new_null_array(&data_type, rows),
        (From::Boolean, _) | (From::Bytes | From::Text, Kind::Bytes) => Arc::clone(array),
        (From::Bytes | From::Text, _) => text(column, array, faults),
        (From::Symbol(symbols), _) => symbol(column, array.as_primitive(), symbols, faults),
        (From::Date, Kind::Date32) => {
            Arc::new(array.as_primitive::<Int32Type>().reinterpret_cast::<Date32Type>()) as ArrayRef
        }
        (From::Moment(nanos), Kind::Timestamp(unit)) => moment(column, array.as_primitive(), *nanos, unit, faults),
        _ => cast(column, array, &data_type, faults),
    };
    if !column.nullable && array.null_count() > 0 {
        for row in (0..array.len()).filter(|row| array.is_null(*row)) {
            faults.add(row, BAD_SCHEMA, column, "it is NOT NULL and null");
        }
    }
    array
}

fn symbol(column: &Planned, array: &PrimitiveArray<Int32Type>, symbols: &[String], faults: &mut Faults) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(array.len(), array.len() * 8);
    for (row, number) in array.iter().enumerate() {
        let symbol = number.map(|number| usize::try_from(number).ok().and_then(|number| symbols.get(number)));
        match symbol {
            Some(Some(symbol)) => builder.append_value(symbol),
            Some(None) => {
                let (number, known) = (array.value(row), symbols.len());
                faults.add(row, BAD_DECODE, column, format!("symbol {number} of an enum of {known}"));
                builder.append_null();
            }
            None => builder.append_null(),
        }
    }
    Arc::new(builder.finish())
}

/// Casts by Arrow's rules; what is out of range is a fault.
fn cast(column: &Planned, array: &ArrayRef, data_type: &DataType, faults: &mut Faults) -> ArrayRef {
    if array.data_type() == data_type {
        return Arc::clone(array);
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let cast = cast_with_options(array, data_type, &options).unwrap_or_else(|_| new_null_array(data_type, array.len()));
    name_lost(column, array, &cast, faults);
    cast
}

fn moment(
    column: &Planned,
    array: &PrimitiveArray<Int64Type>,
    nanos: i64,
    unit: TimeUnit,
    faults: &mut Faults,
) -> ArrayRef {
    fn scaled<T: ArrowPrimitiveType<Native = i64>>(array: &PrimitiveArray<Int64Type>, from: i64, to: i64) -> ArrayRef {
        let scale = |value: i64| i64::try_from((i128::from(value) * i128::from(from)).div_euclid(i128::from(to))).ok();
        Arc::new(array.unary_opt::<_, T>(scale))
    }
    let scaled = match unit {
        TimeUnit::Second => scaled::<TimestampSecondType>(array, nanos, 1_000_000_000),
        TimeUnit::Millisecond => scaled::<TimestampMillisecondType>(array, nanos, 1_000_000),
        TimeUnit::Microsecond => scaled::<TimestampMicrosecondType>(array, nanos, 1_000),
        TimeUnit::Nanosecond => scaled::<TimestampNanosecondType>(array, nanos, 1),
    };
    name_lost(column, array, &scaled, faults);
    scaled
}

/// Values that are there in `from` and not in `to` did not fit.
fn name_lost(column: &Planned, from: &dyn Array, to: &ArrayRef, faults: &mut Faults) {
    if from.null_count() == to.null_count() {
        return;
    }
    for row in (0..to.len()).filter(|row| to.is_null(*row) && from.is_valid(*row)) {
        let value = match from.data_type() {
            DataType::Int32 => from.as_primitive::<Int32Type>().value(row).to_string(),
            DataType::Int64 => from.as_primitive::<Int64Type>().value(row).to_string(),
            other => format!("a value of type {other}"),
        };
        faults.add(row, BAD_SCHEMA, column, format!("expected {}, found {value}", column.kind));
    }
}

/// Bytes as text: checked once for all, and one by one where that fails.
fn text(column: &Planned, array: &ArrayRef, faults: &mut Faults) -> ArrayRef {
    let bytes = array.as_binary::<i32>();
    let (offsets, values, nulls) = bytes.clone().into_parts();
    if let Ok(text) = StringArray::try_new(offsets, values, nulls) {
        return Arc::new(text);
    }
    let mut builder = StringBuilder::with_capacity(bytes.len(), bytes.value_data().len());
    for (row, value) in bytes.iter().enumerate() {
        match value.map(std::str::from_utf8) {
            Some(Ok(text)) => builder.append_value(text),
            Some(Err(error)) => {
                faults.add(row, BAD_DECODE, column, error);
                builder.append_null();
            }
            None => builder.append_null(),
        }
    }
    Arc::new(builder.finish())
}
