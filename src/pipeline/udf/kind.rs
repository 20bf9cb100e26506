//! The types of a UDF. Rule: those that `arroyo-udf-plugin` 0.2.0 compiles and the dialect has a column type for.

use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

/// A type, under its name in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    #[serde(rename = "INT")]
    Int,
    #[serde(rename = "BIGINT")]
    BigInt,
    #[serde(rename = "INT UNSIGNED")]
    IntUnsigned,
    #[serde(rename = "BIGINT UNSIGNED")]
    BigIntUnsigned,
    #[serde(rename = "FLOAT")]
    Float,
    #[serde(rename = "DOUBLE")]
    Double,
    #[serde(rename = "TEXT")]
    Text,
    #[serde(rename = "BYTEA")]
    Bytes,
}

/// A type, and whether it may be NULL (`Option`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Typed {
    /// The argument's name; empty for a result.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    pub nullable: bool,
}

impl Kind {
    pub fn data_type(self) -> DataType {
        match self {
            Self::Int => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::IntUnsigned => DataType::UInt32,
            Self::BigIntUnsigned => DataType::UInt64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Bytes => DataType::Binary,
        }
    }

    pub fn sql_name(self) -> &'static str {
        match self {
            Self::Int => "INT",
            Self::BigInt => "BIGINT",
            Self::IntUnsigned => "INT UNSIGNED",
            Self::BigIntUnsigned => "BIGINT UNSIGNED",
            Self::Float => "FLOAT",
            Self::Double => "DOUBLE",
            Self::Text => "TEXT",
            Self::Bytes => "BYTEA",
        }
    }

    /// Whether a value of type `from` is passed without a cast in the SQL: what Arroyo widens is widened, but nothing
    /// becomes a text by itself.
    pub(super) fn accepts(self, from: &DataType) -> bool {
        use DataType::{
            Binary, BinaryView, Decimal128, Float16, Float32, Float64, Int8, Int16, Int32, Int64, LargeBinary,
            LargeUtf8, Null, UInt8, UInt16, UInt32, UInt64, Utf8, Utf8View,
        };
        match self {
            _ if *from == Null => true,
            Self::Int => matches!(from, Int8 | Int16 | Int32 | UInt8 | UInt16),
            Self::BigInt => matches!(from, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32),
            Self::IntUnsigned => matches!(from, UInt8 | UInt16 | UInt32),
            Self::BigIntUnsigned => matches!(from, UInt8 | UInt16 | UInt32 | UInt64),
            Self::Float => {
                matches!(from, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float16 | Float32)
            }
            Self::Double => {
                from.is_integer() || from.is_floating() && *from != Float16 || matches!(from, Float64 | Decimal128(..))
            }
            Self::Text => matches!(from, Utf8 | LargeUtf8 | Utf8View),
            Self::Bytes => matches!(from, Binary | LargeBinary | BinaryView),
        }
    }
}

/// `(TEXT, BIGINT)`.
pub(super) fn list<'a>(kinds: impl Iterator<Item = &'a Typed>) -> String {
    let names: Vec<&str> = kinds.map(|typed| typed.kind.sql_name()).collect();
    format!("({})", names.join(", "))
}
