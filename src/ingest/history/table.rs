//! Histories as Parquet files. Rule: a row group is read by columns; faults name the row.

use std::fs::File;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use prescale_domain::Timestamp;

use super::columns::Columns;
use super::{Fault, Histories, Result, Row, TIME_HINT, VALUE_HINT, checked, time};

/// Reads a table with a column of times (timestamps of any unit, or RFC 3339 text), one of loads, and perhaps one of services.
pub(super) fn read_parquet(
    file: File,
    mut histories: Histories,
    columns: &Columns,
    signals: &[&str],
) -> Result<Histories> {
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let names: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let places = columns.find(&names, signals)?;
    histories.names_services = places.service.is_some();
    let mut number = 0;
    for index in 0..reader.num_row_groups() {
        let group = reader.get_row_group(index).map_err(broken)?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let column = |place: usize| Ok((group.get_column_reader(place).map_err(broken)?, schema.column(place)));
        let (source, about) = column(places.time)?;
        let times = times(source, &about, rows, number)?;
        let (source, about) = column(places.value)?;
        let loads = loads(source, &about, rows)?;
        let services = match places.service.map(column).transpose()? {
            Some((ColumnReader::ByteArrayColumnReader(source), about)) => all(source, &about, rows)?,
            Some((_, about)) => return Err(unfit(&about, "the service", "write it as text")),
            None => vec![],
        };
        if times.len() != loads.len() || (places.service.is_some() && services.len() != times.len()) {
            return Err(Fault::whole("its columns differ in length", "write the file again"));
        }
        for (index, (at, load)) in times.into_iter().zip(loads).enumerate() {
            number += 1;
            let row = Row::Number(number);
            let load = load.map(|load| checked(load, row)).transpose()?;
            let service = services.get(index).and_then(Option::as_ref).map(|text| utf8(text, row)).transpose()?;
            if histories.names_services && service.is_none_or(str::is_empty) {
                return Err(Fault::at(row, "the service is empty", "name the service in each row"));
            }
            histories.push(service.unwrap_or(""), (at, load), number);
        }
    }
    Ok(histories)
}

fn broken(error: ParquetError) -> Fault {
    Fault::whole(error.to_string(), "write the file again; it must be whole, and packed as snappy, gzip or zstd")
}

fn unfit(column: &ColumnDescriptor, what: &str, hint: &str) -> Fault {
    Fault::whole(format!("column `{}` is {} and no {what}", column.name(), column.physical_type()), hint)
}

fn utf8(text: &ByteArray, row: Row) -> Result<&str> {
    text.as_utf8().map_err(|_| Fault::at(row, "a text is not UTF-8", "write texts as UTF-8"))
}

/// All values of a column of a row group; `None` = null.
fn all<T: DataType>(
    mut source: ColumnReaderImpl<T>,
    column: &ColumnDescriptor,
    rows: usize,
) -> Result<Vec<Option<T::T>>> {
    let most = column.max_def_level();
    if column.max_rep_level() > 0 || most > 1 {
        return Err(unfit(column, "plain column", "write it as a column of single values"));
    }
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let mut done = 0;
    while done < rows {
        let (read, ..) = source.read_records(rows - done, Some(&mut levels), None, &mut values).map_err(broken)?;
        if read == 0 {
            break;
        }
        done += read;
    }
    let mut values = values.into_iter();
    if most == 0 {
        return Ok(values.map(Some).collect());
    }
    Ok(levels.into_iter().map(|level| if level == most { values.next() } else { None }).collect())
}

fn loads(source: ColumnReader, column: &ColumnDescriptor, rows: usize) -> Result<Vec<Option<f64>>> {
    fn widened<T: Copy + Into<f64>>(values: Vec<Option<T>>) -> Vec<Option<f64>> {
        values.into_iter().map(|value| value.map(Into::into)).collect()
    }
    let is_decimal = matches!(column.logical_type(), Some(LogicalType::Decimal { .. }))
        || column.converted_type() == ConvertedType::DECIMAL;
    Ok(match source {
        ColumnReader::DoubleColumnReader(source) => all(source, column, rows)?,
        ColumnReader::FloatColumnReader(source) => widened(all(source, column, rows)?),
        ColumnReader::Int32ColumnReader(source) if !is_decimal => widened(all(source, column, rows)?),
        ColumnReader::Int64ColumnReader(source) if !is_decimal => {
            all(source, column, rows)?.into_iter().map(|value| value.map(|value| value as f64)).collect()
        }
        _ => return Err(unfit(column, "load", VALUE_HINT)),
    })
}

fn times(source: ColumnReader, column: &ColumnDescriptor, rows: usize, before: u64) -> Result<Vec<Timestamp>> {
    let row = |index: usize| Row::Number(before + index as u64 + 1);
    let empty = |index: usize| Fault::at(row(index), "the time is empty", TIME_HINT);
    match source {
        ColumnReader::Int64ColumnReader(source) => {
            let hint = "write it as a timestamp, or as RFC 3339 text: a bare number may be of seconds or milliseconds";
            let millis = millis_of(column).ok_or_else(|| unfit(column, "time", hint))?;
            let values = all(source, column, rows)?.into_iter().enumerate();
            values
                .map(|(index, value)| Ok(Timestamp::from_millis(millis(value.ok_or_else(|| empty(index))?))))
                .collect()
        }
        ColumnReader::ByteArrayColumnReader(source) => {
            let values = all(source, column, rows)?.into_iter().enumerate();
            values
                .map(|(index, value)| time(utf8(&value.ok_or_else(|| empty(index))?, row(index))?, row(index)))
                .collect()
        }
        _ => Err(unfit(column, "time", "write it as a timestamp of milliseconds, microseconds or nanoseconds")),
    }
}

/// From the unit of a column to milliseconds; `None` where it says none.
fn millis_of(column: &ColumnDescriptor) -> Option<fn(i64) -> i64> {
    debug_assert_eq!(column.physical_type(), Type::INT64);
    match (column.logical_type(), column.converted_type()) {
        (Some(LogicalType::Timestamp { unit, .. }), _) => Some(match unit {
            TimeUnit::MILLIS(_) => |value| value,
            TimeUnit::MICROS(_) => |value| value.div_euclid(1000),
            TimeUnit::NANOS(_) => |value| value.div_euclid(1_000_000),
        }),
        (None, ConvertedType::TIMESTAMP_MILLIS) => Some(|value| value),
        (None, ConvertedType::TIMESTAMP_MICROS) => Some(|value| value.div_euclid(1000)),
        _ => None,
    }
}
