//! Rows as flat JSON objects. Rule: one form for each value: integers as integers, doubles in the shortest form that
//! reads back equal, NULL, NaN and infinities as null, times as RFC 3339 in UTC.

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType, UInt64Type};
use arrow::error::ArrowError;
use chrono::{DateTime, SecondsFormat};
use prescale_domain::Timestamp;

use crate::engine::OutRow;
use crate::sql::SinkTable;

/// Writes each row; `Err` of a row whose key is NULL is its position.
pub(crate) fn rows(batch: &RecordBatch, sink: &SinkTable) -> Result<Vec<Result<OutRow, Vec<u8>>>, ArrowError> {
    let columns = batch.columns().iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<Vec<u8>> = sink.schema.fields().iter().map(|field| quoted(field.name())).collect();
    let millis = |index: usize, row: usize| match &columns[index] {
        Column::Time(times) if times.is_valid(row) => {
            times.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000_000)
        }
        _ => i64::MIN,
    };
    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let mut json = vec![b'{'];
        for (index, (name, column)) in names.iter().zip(&columns).enumerate() {
            if index > 0 {
                json.push(b',');
            }
            json.extend_from_slice(name);
            json.push(b':');
            column.write(row, &mut json);
        }
        json.push(b'}');
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
            window_start: Timestamp::from_millis(millis(sink.window_start, row)),
            window_end: Timestamp::from_millis(millis(sink.window_end, row)),
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
    Time(ArrayRef),
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
            DataType::Timestamp(_, _) => Self::Time(cast(array, &DataType::Timestamp(TimeUnit::Nanosecond, None))?),
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
            | Self::Time(array)
            | Self::Date(array)
            | Self::Bytes(array) => array,
        }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        let array = self.array();
        if array.is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        match self {
            Self::Text(array) => out.extend(quoted(array.as_string::<i32>().value(row))),
            Self::Signed(array) => display(out, array.as_primitive::<Int64Type>().value(row)),
            Self::Unsigned(array) => display(out, array.as_primitive::<UInt64Type>().value(row)),
            Self::Double(array) => number(out, serde_json::to_string(&array.as_primitive::<Float64Type>().value(row))),
            Self::Single(array) => {
                number(out, serde_json::to_string(&array.as_primitive::<arrow::datatypes::Float32Type>().value(row)));
            }
            Self::Boolean(array) => display(out, array.as_boolean().value(row)),
            Self::Time(array) => {
                let time = DateTime::from_timestamp_nanos(array.as_primitive::<TimestampNanosecondType>().value(row));
                out.extend(quoted(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)));
            }
            Self::Date(array) => {
                let date = Date32Type::to_naive_date_opt(array.as_primitive::<Date32Type>().value(row));
                match date {
                    Some(date) => out.extend(quoted(&date.to_string())),
                    None => out.extend_from_slice(b"null"),
                }
            }
            Self::Bytes(array) => {
                let hex: String =
                    array.as_binary::<i32>().value(row).iter().map(|byte| format!("{byte:02x}")).collect();
                out.extend(quoted(&hex));
            }
        }
    }
}

fn quoted(text: &str) -> Vec<u8> {
    // A text always has a JSON form.
    serde_json::to_vec(text).unwrap_or_default()
}

fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing into a vector can't fail.
    write!(out, "{value}").unwrap_or_default();
}

fn number(out: &mut Vec<u8>, text: serde_json::Result<String>) {
    out.extend_from_slice(text.unwrap_or_else(|_| "null".to_owned()).as_bytes());
}
