//! What is known of a record beside its bytes, as `METADATA` columns. Rule: one value a row, in the order of the rows.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Int32Array, Int64Array, StringArray, new_null_array};
use arrow::datatypes::DataType;
use thiserror::Error;

use crate::RawBatch;

/// A field of `METADATA FROM '…'`, as Arroyo names them for Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataField {
    OffsetId,
    Partition,
    Topic,
    /// The broker's timestamp in milliseconds; NULL where a record has none.
    Timestamp,
    /// Always NULL for now: keys are not kept.
    Key,
}

/// A name that is no metadata field.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("unknown metadata field `{0}`\nhint: one of offset_id, partition, topic, timestamp, key")]
pub struct UnknownMetadataField(String);

impl FromStr for MetadataField {
    type Err = UnknownMetadataField;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "offset_id" => Ok(Self::OffsetId),
            "partition" => Ok(Self::Partition),
            "topic" => Ok(Self::Topic),
            "timestamp" => Ok(Self::Timestamp),
            "key" => Ok(Self::Key),
            _ => Err(UnknownMetadataField(name.to_owned())),
        }
    }
}

impl MetadataField {
    pub fn data_type(self) -> DataType {
        match self {
            Self::OffsetId | Self::Timestamp => DataType::Int64,
            Self::Partition => DataType::Int32,
            Self::Topic => DataType::Utf8,
            Self::Key => DataType::Binary,
        }
    }

    /// The field's values for `rows`, each the index of a record of `raw`.
    pub fn column(self, raw: &RawBatch, rows: &[u32]) -> ArrayRef {
        let at = |row: &u32| usize::try_from(*row).unwrap_or(usize::MAX);
        match self {
            Self::OffsetId => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| raw.offsets[at(row)]))),
            Self::Partition => Arc::new(Int32Array::from_value(raw.partition, rows.len())),
            Self::Topic => Arc::new(StringArray::from_iter_values(rows.iter().map(|_| &*raw.topic))),
            Self::Timestamp => {
                let known = |row: &u32| Some(raw.timestamps[at(row)]).filter(|millis| *millis != i64::MIN);
                Arc::new(rows.iter().map(known).collect::<Int64Array>())
            }
            Self::Key => Arc::new(BinaryArray::from(new_null_array(&DataType::Binary, rows.len()).to_data())),
        }
    }
}
