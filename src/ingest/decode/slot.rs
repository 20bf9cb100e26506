//! One JSON value on its way into a column. Rule: a value either has the column's type afterwards or says why not; the
//! rules are those of Arrow's JSON reader, which Arroyo uses: numbers may be quoted, fractions are cut for integers,
//! times are text or numbers in the column's unit.

use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use arrow::datatypes::TimeUnit;
use chrono::Utc;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::column::Kind;

/// What a record has for one column.
pub(super) enum Slot<'a> {
    Missing,
    Null,
    Bool(bool),
    /// All signed integers, times and dates.
    Int(i64),
    UInt(u64),
    Float(f64),
    Single(f32),
    Text(&'a str),
    /// Text with escapes, which can't be borrowed.
    Unescaped(String),
    Bytes(&'a [u8]),
    /// Of another type; why.
    Wrong(String),
}

/// Reads one value of a column into its slot; the last of equal names counts.
pub(super) struct CellSeed<'s, 'a> {
    pub(super) kind: Kind,
    pub(super) slot: &'s mut Slot<'a>,
}

impl<'a> DeserializeSeed<'a> for CellSeed<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for CellSeed<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        *self.slot = Slot::Null;
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        *self.slot = if self.kind == Kind::Bool { Slot::Bool(value) } else { wrong(self.kind, value) };
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        *self.slot = self.kind.integer(i128::from(value)).unwrap_or_else(|| wrong(self.kind, value));
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        *self.slot = self.kind.integer(i128::from(value)).unwrap_or_else(|| wrong(self.kind, value));
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        *self.slot = self.kind.float(value).unwrap_or_else(|| wrong(self.kind, value));
        Ok(())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'a str) -> Result<(), E> {
        *self.slot = match self.kind {
            Kind::Text => Slot::Text(text),
            kind => kind.text(text).unwrap_or_else(|| wrong_text(kind, text)),
        };
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        *self.slot = match self.kind {
            Kind::Text => Slot::Unescaped(text.to_owned()),
            kind => kind.text(text).unwrap_or_else(|| wrong_text(kind, text)),
        };
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        *self.slot = wrong(self.kind, "a list");
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        *self.slot = wrong(self.kind, "an object");
        Ok(())
    }
}

fn wrong<'a>(kind: Kind, found: impl std::fmt::Display) -> Slot<'a> {
    Slot::Wrong(format!("expected {kind}, found {found}"))
}

/// Long texts are cut: the dead letter has them whole.
fn wrong_text<'a>(kind: Kind, text: &str) -> Slot<'a> {
    let short: String = text.chars().take(60).collect();
    Slot::Wrong(format!("expected {kind}, found the text `{short}`"))
}

impl Kind {
    pub(super) fn integer<'a>(self, value: i128) -> Option<Slot<'a>> {
        if let Some((low, high)) = self.range() {
            if value < low || value > high {
                return None;
            }
            return if self == Self::UInt64 { u64::try_from(value).ok().map(Slot::UInt) } else { signed(value) };
        }
        match self {
            Self::Float64 => Some(Slot::Float(value as f64)),
            Self::Float32 => Some(Slot::Single(value as f32)),
            // Past i64 it is read as a floating point number, which is then limited to i64.
            Self::Timestamp(_) => signed(value.min(i128::from(i64::MAX))),
            _ => None,
        }
    }

    pub(super) fn float<'a>(self, value: f64) -> Option<Slot<'a>> {
        if self.range().is_some() {
            return self.integer(value.trunc() as i128);
        }
        match self {
            Self::Float64 => Some(Slot::Float(value)),
            Self::Float32 => Some(Slot::Single(value as f32)),
            Self::Timestamp(_) => Some(Slot::Int(value as i64)),
            _ => None,
        }
    }

    pub(super) fn text<'a>(self, text: &str) -> Option<Slot<'a>> {
        fn parsed<'a, P: ArrowPrimitiveType + Parser>(text: &str) -> Option<Slot<'a>>
        where
            P::Native: Into<i64>,
        {
            P::parse(text).map(|value| Slot::Int(value.into()))
        }
        match self {
            Self::Bool | Self::Text | Self::Bytes => None,
            Self::Int8 => parsed::<Int8Type>(text),
            Self::Int16 => parsed::<Int16Type>(text),
            Self::Int32 => parsed::<Int32Type>(text),
            Self::Int64 => parsed::<Int64Type>(text),
            Self::UInt8 => parsed::<UInt8Type>(text),
            Self::UInt16 => parsed::<UInt16Type>(text),
            Self::UInt32 => parsed::<UInt32Type>(text),
            Self::UInt64 => UInt64Type::parse(text).map(Slot::UInt),
            Self::Float32 => Float32Type::parse(text).map(Slot::Single),
            Self::Float64 => Float64Type::parse(text).map(Slot::Float),
            Self::Date32 => Date32Type::parse(text).map(|days| Slot::Int(days.into())),
            Self::Timestamp(unit) => {
                let moment = string_to_datetime(&Utc, text).ok()?;
                let value = match unit {
                    TimeUnit::Second => Some(moment.timestamp()),
                    TimeUnit::Millisecond => Some(moment.timestamp_millis()),
                    TimeUnit::Microsecond => Some(moment.timestamp_micros()),
                    TimeUnit::Nanosecond => moment.timestamp_nanos_opt(),
                };
                value.map(Slot::Int)
            }
        }
    }
}

fn signed<'a>(value: i128) -> Option<Slot<'a>> {
    i64::try_from(value).ok().map(Slot::Int)
}
