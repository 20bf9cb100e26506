//! What is known of a record beside its bytes, as `METADATA` columns. Rule: one value a row, in the order of the rows.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int32Array, Int64Array, StringArray};
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
    /// NULL where a record has none; as text also where it is not UTF-8.
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
    /// The types that its column may have.
    pub const fn data_types(self) -> &'static [DataType] {
        match self {
            Self::OffsetId | Self::Timestamp => &[DataType::Int64],
            Self::Partition => &[DataType::Int32],
            Self::Topic => &[DataType::Utf8],
            Self::Key => &[DataType::Utf8, DataType::Binary],
        }
    }

    /// The field's values for `rows`, each the index of a record of `raw`; `data_type` is one of its types.
    pub fn column(self, raw: &RawBatch, rows: &[u32], data_type: &DataType) -> ArrayRef {
        let records = rows.iter().map(|row| usize::try_from(*row).unwrap_or(usize::MAX));
        match (self, data_type) {
            (Self::OffsetId, _) => Arc::new(Int64Array::from_iter_values(records.map(|record| raw.offsets[record]))),
            (Self::Partition, _) => Arc::new(Int32Array::from_value(raw.partition, rows.len())),
            (Self::Topic, _) => Arc::new(StringArray::from_iter_values(records.map(|_| &*raw.topic))),
            (Self::Timestamp, _) => {
                let known = |record: usize| Some(raw.timestamps[record]).filter(|millis| *millis != i64::MIN);
                Arc::new(records.map(known).collect::<Int64Array>())
            }
            (Self::Key, DataType::Binary) => Arc::new(records.map(|record| raw.key(record)).collect::<BinaryArray>()),
            (Self::Key, _) => {
                let text = |record: usize| raw.key(record).and_then(|key| std::str::from_utf8(key).ok());
                Arc::new(records.map(text).collect::<StringArray>())
            }
        }
    }
}
