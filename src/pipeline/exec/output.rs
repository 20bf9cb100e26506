//! Rows as flat JSON objects. Rule: one form for each value: integers as integers, doubles in the shortest form that
//! reads back equal, NULL, NaN and infinities as null, times as RFC 3339 in UTC.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType, UInt64Type};
use arrow::error::ArrowError;
use chrono::{DateTime, SecondsFormat};
use prescale_domain::Timestamp;
use serde::Serialize;

use crate::engine::OutRow;
use crate::sql::SinkTable;

/// Writes each row; `Err` of a row whose key is NULL is its position.
pub(crate) fn rows(batch: &RecordBatch, sink: &SinkTable) -> Result<Vec<Result<OutRow, Vec<u8>>>, ArrowError> {
    let mut columns = batch.columns().iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
    let fields = sink.schema.fields().iter().enumerate();
    let names: Vec<Vec<u8>> = fields.map(|(index, field)| lead(index, field.name())).collect();
    let millis = |column: &Column, row: usize| match column {
        Column::Time { array: times, .. } if times.is_valid(row) => {
            times.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000_000)
        }
        _ => i64::MIN,
    };
    let (mut rows, mut length) = (Vec::with_capacity(batch.num_rows()), 0);
    for row in 0..batch.num_rows() {
        // Mostly about as long as the one before.
        let mut json = Vec::with_capacity(length + 8);
        if names.is_empty() {
            json.push(b'{');
        }
        for (name, column) in names.iter().zip(&mut columns) {
            json.extend_from_slice(name);
            column.write(row, &mut json);
        }
        json.push(b'}');
        length = json.len();
        let Column::Text(key) = &columns[sink.key] else {
            rows.push(Err(json));
            continue;
        };
        if key.is_null(row) {
            rows.push(Err(json));
            continue;
        }
        rows.push(Ok(OutRow {
            key: key.as_string::<i32>().value(row).as_bytes().to_vec(),
            window_start: Timestamp::from_millis(millis(&columns[sink.window_start], row)),
            window_end: Timestamp::from_millis(millis(&columns[sink.window_end], row)),
            json,
        }));
    }
    Ok(rows)
}

/// A column in the one type of its kind.
enum Column {
    Text(ArrayRef),
    Signed(ArrayRef),
    Unsigned(ArrayRef),
    Double(ArrayRef),
    Single(ArrayRef),
    Boolean(ArrayRef),
    Time { array: ArrayRef, last: Option<(i64, Vec<u8>)> },
    Date(ArrayRef),
    Bytes(ArrayRef),
}

impl Column {
    fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        use DataType::{
            Binary, Boolean, Date32, Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Utf8,
        };
        Ok(match array.data_type() {
            Int8 | Int16 | Int32 | Int64 => Self::Signed(cast(array, &Int64)?),
            UInt8 | UInt16 | UInt32 | UInt64 => Self::Unsigned(cast(array, &UInt64)?),
            Float64 => Self::Double(array.clone()),
            Float32 => Self::Single(array.clone()),
            Boolean => Self::Boolean(array.clone()),
            DataType::Timestamp(_, _) => {
                Self::Time { array: cast(array, &DataType::Timestamp(TimeUnit::Nanosecond, None))?, last: None }
            }
            Date32 => Self::Date(array.clone()),
            Binary => Self::Bytes(array.clone()),
            _ => Self::Text(cast(array, &Utf8)?),
        })
    }

    fn array(&self) -> &ArrayRef {
        match self {
            Self::Text(array)
            | Self::Signed(array)
            | Self::Unsigned(array)
            | Self::Double(array)
            | Self::Single(array)
            | Self::Boolean(array)
            | Self::Time { array, .. }
            | Self::Date(array)
            | Self::Bytes(array) => array,
        }
    }

    fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        let array = self.array();
        if array.is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        match self {
            Self::Text(array) => json(out, array.as_string::<i32>().value(row)),
            Self::Signed(array) => json(out, &array.as_primitive::<Int64Type>().value(row)),
            Self::Unsigned(array) => json(out, &array.as_primitive::<UInt64Type>().value(row)),
            Self::Double(array) => json(out, &array.as_primitive::<Float64Type>().value(row)),
            Self::Single(array) => json(out, &array.as_primitive::<arrow::datatypes::Float32Type>().value(row)),
            Self::Boolean(array) => json(out, &array.as_boolean().value(row)),
            Self::Time { array, last } => {
                let nanos = array.as_primitive::<TimestampNanosecondType>().value(row);
                // A window's borders are those of all its rows.
                let text = match last {
                    Some((at, text)) if *at == nanos => text,
                    last => {
                        let time = DateTime::from_timestamp_nanos(nanos);
                        let mut text = Vec::new();
                        json(&mut text, &time.to_rfc3339_opts(SecondsFormat::AutoSi, true));
                        &mut last.insert((nanos, text)).1
                    }
                };
                out.extend_from_slice(text);
            }
            Self::Date(array) => {
                let date = Date32Type::to_naive_date_opt(array.as_primitive::<Date32Type>().value(row));
                json(out, &date.map(|date| date.to_string()));
            }
            Self::Bytes(array) => {
                let hex: String =
                    array.as_binary::<i32>().value(row).iter().map(|byte| format!("{byte:02x}")).collect();
                json(out, &hex);
            }
        }
    }
}

/// What comes before the value of the column at `index`.
fn lead(index: usize, name: &str) -> Vec<u8> {
    let mut lead = vec![if index == 0 { b'{' } else { b',' }];
    json(&mut lead, name);
    lead.push(b':');
    lead
}

/// Appends a value's JSON form, which each of ours has; NaN and infinities are null.
fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).unwrap_or_default();
}
