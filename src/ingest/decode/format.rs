//! How the bytes of a topic's records are to be read. Rule: a format is complete: a decoder needs nothing else but, where
//! records name their schema by id, what a registry says of the ids.

use std::fmt;
use std::sync::Arc;

/// How the bytes of a record are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a record.
    Json,
    /// One JSON object a record, in Confluent's wire format; the schema that the frame names is not needed.
    FramedJson,
    /// The whole record is the text of the only column.
    RawString,
    /// The whole record is the only column.
    RawBytes,
    Avro(AvroEncoding),
    Protobuf(ProtobufEncoding),
}

/// Where the schema that an Avro record was written with comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AvroEncoding {
    /// The record is an object container file with one datum.
    Container,
    /// The record is a bare datum of this schema; `None` = the one that the table's columns stand for.
    Datum(Option<Arc<str>>),
    /// The record is in Confluent's wire format and names its schema by id.
    Registry,
}

/// Where the message type of a Protobuf record comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum ProtobufEncoding {
    /// The record is one message of this name; the set (`protoc --include_imports --descriptor_set_out`) describes it.
    Message { descriptor_set: Arc<[u8]>, message: String },
    /// The record is in Confluent's wire format and names its schema by id, and the message in it by index.
    Registry,
}

impl fmt::Debug for ProtobufEncoding {
    /// In short, without the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { message, .. } => write!(f, "Message({message})"),
            Self::Registry => f.write_str("Registry"),
        }
    }
}

impl Format {
    /// As `WITH` names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Json | Self::FramedJson => "json",
            Self::RawString => "raw_string",
            Self::RawBytes => "raw_bytes",
            Self::Avro(_) => "avro",
            Self::Protobuf(_) => "protobuf",
        }
    }

    /// Whether records name their schemas by ids of a registry that has to be asked.
    pub fn needs_registry(&self) -> bool {
        matches!(self, Self::Avro(AvroEncoding::Registry) | Self::Protobuf(ProtobufEncoding::Registry))
    }

    /// The format of the same records as lines of a text file; `None` = they are not text.
    pub fn of_lines(&self) -> Option<Self> {
        match self {
            Self::Json | Self::FramedJson => Some(Self::Json),
            Self::RawString | Self::RawBytes => Some(self.clone()),
            Self::Avro(_) | Self::Protobuf(_) => None,
        }
    }
}
