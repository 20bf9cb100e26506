//! One message type and its way into columns. Rule: as Protobuf says: the last of equal fields counts, embedded messages are
//! merged, a member of a oneof takes the place of the others.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind as ProtoKind, MessageDescriptor, Value};

use crate::decode::column::{Kind, Planned};
use crate::decode::slot::Slot;
use crate::decode::{BAD_DECODE, BAD_SCHEMA};
use arrow::datatypes::TimeUnit;

/// How a message becomes a row.
#[derive(Clone, Debug)]
pub(super) struct MessagePlan {
    /// Fields that matter, ascending by number.
    fields: Vec<Field>,
    /// By column, what an absent field is.
    defaults: Vec<Absent>,
}

#[derive(Clone, Debug)]
struct Field {
    number: u32,
    /// `None` = of a oneof with a column, and no column itself.
    column: Option<usize>,
    scalar: Scalar,
    /// The field is a wrapper message (`google.protobuf.Int64Value`, …) around the scalar.
    wrapped: bool,
    /// The value of a wrapper that is there and has none.
    zero: Absent,
    /// Columns that become empty when this field comes.
    clears: Vec<usize>,
}

/// What a field holds.
#[derive(Clone, Debug)]
enum Scalar {
    Bool,
    /// `int32`, `int64`.
    Signed {
        bits: u32,
    },
    /// `sint32`, `sint64`.
    Zigzag {
        bits: u32,
    },
    /// `uint32`, `uint64`.
    Unsigned {
        bits: u32,
    },
    Fixed32 {
        signed: bool,
    },
    Fixed64 {
        signed: bool,
    },
    Float,
    Double,
    Text,
    Bytes,
    /// By number, ascending, the names.
    Enum(Vec<(i32, String)>),
    /// `google.protobuf.Timestamp`.
    Moment,
}

#[derive(Clone, Debug)]
enum Absent {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Single(f32),
    Text(String),
    Bytes(Vec<u8>),
}

pub(super) type Fault = (&'static str, String);

impl MessagePlan {
    pub(super) fn of(message: &MessageDescriptor, columns: &[Planned]) -> Result<Self, String> {
        let mut fields = Vec::new();
        let mut defaults = Vec::new();
        for (index, column) in columns.iter().enumerate() {
            let Some(descriptor) = message.get_field_by_name(&column.name) else {
                if !column.nullable {
                    let message = message.full_name();
                    return Err(format!("column `{}`: it is NOT NULL and not a field of `{message}`", column.name));
                }
                defaults.push(Absent::Null);
                continue;
            };
            let (scalar, wrapped) = scalar(&descriptor)
                .filter(|(scalar, _)| scalar.fits(column.kind))
                .ok_or_else(|| wrong(column, &descriptor))?;
            defaults.push(absent(&descriptor, &scalar, wrapped, column.kind));
            let (number, zero) = (descriptor.number(), scalar.zero());
            fields.push(Field { number, column: Some(index), scalar, wrapped, zero, clears: Vec::new() });
        }
        for oneof in message.oneofs() {
            let members: Vec<u32> = oneof.fields().map(|field| field.number()).collect();
            let columns: Vec<(u32, usize)> = fields
                .iter()
                .filter(|field| members.contains(&field.number))
                .filter_map(|field| Some((field.number, field.column?)))
                .collect();
            if columns.is_empty() {
                continue;
            }
            for member in members {
                let clears =
                    columns.iter().filter(|(number, _)| *number != member).map(|(_, column)| *column).collect();
                match fields.iter_mut().find(|field| field.number == member) {
                    Some(field) => field.clears = clears,
                    None => {
                        let (scalar, zero) = (Scalar::Bytes, Absent::Null);
                        fields.push(Field { number: member, column: None, scalar, wrapped: false, zero, clears });
                    }
                }
            }
        }
        fields.sort_by_key(|field| field.number);
        Ok(Self { fields, defaults })
    }

    /// Fills the slots from a message.
    pub(super) fn read<'a>(
        &'a self,
        mut bytes: &'a [u8],
        columns: &[Planned],
        slots: &mut [Slot<'a>],
    ) -> Result<(), Fault> {
        slots.fill_with(|| Slot::Missing);
        while !bytes.is_empty() {
            let (number, wire) = decode_key(&mut bytes).map_err(|error| (BAD_DECODE, error.to_string()))?;
            let Ok(place) = self.fields.binary_search_by_key(&number, |field| field.number) else {
                pass(number, wire, &mut bytes)?;
                continue;
            };
            let field = &self.fields[place];
            field.clears.iter().for_each(|column| slots[*column] = Slot::Missing);
            let Some(index) = field.column else {
                pass(number, wire, &mut bytes)?;
                continue;
            };
            let named = |(reason, error): Fault| (reason, format!("column `{}`: {error}", columns[index].name));
            field.read(wire, &mut bytes, columns[index].kind, &mut slots[index]).map_err(named)?;
        }
        for ((column, slot), default) in columns.iter().zip(slots).zip(&self.defaults) {
            if matches!(slot, Slot::Missing) {
                *slot = default.slot(column.kind);
            }
            let fault = match slot {
                Slot::Wrong(fault) => fault.as_str(),
                Slot::Missing | Slot::Null if !column.nullable => "it is NOT NULL and missing",
                _ => continue,
            };
            return Err((BAD_SCHEMA, format!("column `{}`: {fault}", column.name)));
        }
        Ok(())
    }
}

impl Field {
    fn read<'a>(&'a self, wire: WireType, bytes: &mut &'a [u8], kind: Kind, slot: &mut Slot<'a>) -> Result<(), Fault> {
        if !self.wrapped {
            return self.scalar.read(wire, bytes, kind, slot);
        }
        let mut inner = delimited(wire, bytes)?;
        if matches!(slot, Slot::Missing) {
            // The message is there: its value, if that is absent, is the default.
            *slot = self.zero.slot(kind);
        }
        while !inner.is_empty() {
            let (number, wire) = decode_key(&mut inner).map_err(|error| (BAD_DECODE, error.to_string()))?;
            if number == 1 { self.scalar.read(wire, &mut inner, kind, slot)? } else { pass(number, wire, &mut inner)? }
        }
        Ok(())
    }
}

impl Scalar {
    /// Whether values may go into columns of this kind; integers are checked value by value.
    fn fits(&self, kind: Kind) -> bool {
        let whole = kind.range().is_some() && kind != Kind::Date32;
        match self {
            Self::Bool => kind == Kind::Bool,
            Self::Signed { .. }
            | Self::Zigzag { .. }
            | Self::Unsigned { .. }
            | Self::Fixed32 { .. }
            | Self::Fixed64 { .. } => whole || matches!(kind, Kind::Float32 | Kind::Float64),
            Self::Float => matches!(kind, Kind::Float32 | Kind::Float64),
            Self::Double => kind == Kind::Float64,
            Self::Text | Self::Bytes => matches!(kind, Kind::Text | Kind::Bytes),
            Self::Enum(_) => kind == Kind::Text || whole,
            Self::Moment => matches!(kind, Kind::Timestamp(_)),
        }
    }

    /// What is absent where presence is not known.
    fn zero(&self) -> Absent {
        match self {
            Self::Bool => Absent::Bool(false),
            Self::Float => Absent::Single(0.0),
            Self::Double => Absent::Float(0.0),
            Self::Text => Absent::Text(String::new()),
            Self::Bytes => Absent::Bytes(Vec::new()),
            Self::Moment => Absent::Null,
            _ => Absent::Int(0),
        }
    }

    fn read<'a>(&'a self, wire: WireType, bytes: &mut &'a [u8], kind: Kind, slot: &mut Slot<'a>) -> Result<(), Fault> {
        let varint = |bytes: &mut &'a [u8]| {
            expect(wire, WireType::Varint)?;
            decode_varint(bytes).map_err(|error| (BAD_DECODE, error.to_string()))
        };
        *slot = match self {
            Self::Bool => Slot::Bool(varint(bytes)? != 0),
            Self::Signed { bits: 32 } => integer(kind, i128::from(varint(bytes)? as i32)),
            Self::Signed { .. } => integer(kind, i128::from(varint(bytes)? as i64)),
            Self::Unsigned { bits: 32 } => integer(kind, i128::from(varint(bytes)? as u32)),
            Self::Unsigned { .. } => integer(kind, i128::from(varint(bytes)?)),
            Self::Zigzag { bits: 32 } => {
                let value = varint(bytes)? as u32;
                integer(kind, i128::from((value >> 1) as i32 ^ -((value & 1) as i32)))
            }
            Self::Zigzag { .. } => {
                let value = varint(bytes)?;
                integer(kind, i128::from((value >> 1) as i64 ^ -((value & 1) as i64)))
            }
            Self::Fixed32 { signed } => {
                let value = u32::from_le_bytes(fixed(wire, WireType::ThirtyTwoBit, bytes)?);
                integer(kind, if *signed { i128::from(value as i32) } else { i128::from(value) })
            }
            Self::Fixed64 { signed } => {
                let value = u64::from_le_bytes(fixed(wire, WireType::SixtyFourBit, bytes)?);
                integer(kind, if *signed { i128::from(value as i64) } else { i128::from(value) })
            }
            Self::Float => single(kind, f32::from_le_bytes(fixed(wire, WireType::ThirtyTwoBit, bytes)?)),
            Self::Double => Slot::Float(f64::from_le_bytes(fixed(wire, WireType::SixtyFourBit, bytes)?)),
            Self::Text => {
                let text = std::str::from_utf8(delimited(wire, bytes)?).map_err(|e| (BAD_DECODE, e.to_string()))?;
                if kind == Kind::Bytes { Slot::Bytes(text.as_bytes()) } else { Slot::Text(text) }
            }
            Self::Bytes => {
                let found = delimited(wire, bytes)?;
                match kind {
                    Kind::Bytes => Slot::Bytes(found),
                    _ => std::str::from_utf8(found).map_or_else(|error| Slot::Wrong(error.to_string()), Slot::Text),
                }
            }
            Self::Enum(names) => symbol(names, kind, varint(bytes)? as i32),
            Self::Moment => moment(delimited(wire, bytes)?, kind, slot)?,
        };
        Ok(())
    }
}

impl Absent {
    fn slot(&self, kind: Kind) -> Slot<'_> {
        match self {
            Self::Null => Slot::Missing,
            Self::Bool(value) => Slot::Bool(*value),
            Self::Int(value) => integer(kind, *value),
            Self::Float(value) => Slot::Float(*value),
            Self::Single(value) => single(kind, *value),
            Self::Text(text) if kind == Kind::Bytes => Slot::Bytes(text.as_bytes()),
            Self::Text(text) => Slot::Text(text),
            Self::Bytes(bytes) if kind == Kind::Bytes => Slot::Bytes(bytes),
            Self::Bytes(bytes) => {
                std::str::from_utf8(bytes).map_or_else(|error| Slot::Wrong(error.to_string()), Slot::Text)
            }
        }
    }
}

/// What a field holds, and whether in a wrapper; `None` = what no column can hold.
fn scalar(field: &FieldDescriptor) -> Option<(Scalar, bool)> {
    if field.is_list() || field.is_map() {
        return None;
    }
    let plain = |kind: ProtoKind| {
        Some(match kind {
            ProtoKind::Bool => Scalar::Bool,
            ProtoKind::Int32 => Scalar::Signed { bits: 32 },
            ProtoKind::Int64 => Scalar::Signed { bits: 64 },
            ProtoKind::Sint32 => Scalar::Zigzag { bits: 32 },
            ProtoKind::Sint64 => Scalar::Zigzag { bits: 64 },
            ProtoKind::Uint32 => Scalar::Unsigned { bits: 32 },
            ProtoKind::Uint64 => Scalar::Unsigned { bits: 64 },
            ProtoKind::Fixed32 => Scalar::Fixed32 { signed: false },
            ProtoKind::Sfixed32 => Scalar::Fixed32 { signed: true },
            ProtoKind::Fixed64 => Scalar::Fixed64 { signed: false },
            ProtoKind::Sfixed64 => Scalar::Fixed64 { signed: true },
            ProtoKind::Float => Scalar::Float,
            ProtoKind::Double => Scalar::Double,
            ProtoKind::String => Scalar::Text,
            ProtoKind::Bytes => Scalar::Bytes,
            ProtoKind::Enum(descriptor) => Scalar::Enum(names(&descriptor)),
            ProtoKind::Message(_) => return None,
        })
    };
    match field.kind() {
        ProtoKind::Message(_) if field.is_group() => None,
        ProtoKind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => Some((Scalar::Moment, false)),
            "google.protobuf.BoolValue"
            | "google.protobuf.Int32Value"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.FloatValue"
            | "google.protobuf.DoubleValue"
            | "google.protobuf.StringValue"
            | "google.protobuf.BytesValue" => Some((plain(message.get_field(1)?.kind())?, true)),
            _ => None,
        },
        kind => Some((plain(kind)?, false)),
    }
}

fn wrong(column: &Planned, field: &FieldDescriptor) -> String {
    let many = if field.is_map() {
        "a map of "
    } else if field.is_list() {
        "repeated "
    } else {
        ""
    };
    let found = match field.kind() {
        ProtoKind::Message(message) => format!("message {}", message.full_name()),
        ProtoKind::Enum(descriptor) => format!("enum {}", descriptor.full_name()),
        kind => format!("{kind:?}").to_lowercase(),
    };
    format!("column `{}`: expected {}, found {many}{found} in the message", column.name, column.kind)
}

fn absent(field: &FieldDescriptor, scalar: &Scalar, wrapped: bool, kind: Kind) -> Absent {
    let declared = field.field_descriptor_proto().default_value.is_some();
    if wrapped || (field.supports_presence() && !declared) {
        return Absent::Null;
    }
    match (field.default_value(), scalar) {
        (Value::Bool(value), _) => Absent::Bool(value),
        (Value::I32(value), _) => Absent::Int(value.into()),
        (Value::I64(value), _) => Absent::Int(value.into()),
        (Value::U32(value), _) => Absent::Int(value.into()),
        (Value::U64(value), _) => Absent::Int(value.into()),
        (Value::F32(value), _) => Absent::Single(value),
        (Value::F64(value), _) => Absent::Float(value),
        (Value::String(text), _) => Absent::Text(text),
        (Value::Bytes(bytes), _) => Absent::Bytes(bytes.to_vec()),
        (Value::EnumNumber(number), Scalar::Enum(names)) if kind == Kind::Text => {
            Absent::Text(name_of(names, number).map_or_else(|| number.to_string(), str::to_owned))
        }
        (Value::EnumNumber(number), _) => Absent::Int(number.into()),
        (_, scalar) => scalar.zero(),
    }
}

fn integer<'a>(kind: Kind, value: i128) -> Slot<'a> {
    kind.integer(value).unwrap_or_else(|| Slot::Wrong(format!("expected {kind}, found {value}")))
}

fn single<'a>(kind: Kind, value: f32) -> Slot<'a> {
    if kind == Kind::Float32 { Slot::Single(value) } else { Slot::Float(value.into()) }
}

/// Of several names of one number the first.
fn names(descriptor: &EnumDescriptor) -> Vec<(i32, String)> {
    let mut names: Vec<(i32, String)> =
        descriptor.values().map(|value| (value.number(), value.name().to_owned())).collect();
    names.sort_by_key(|(number, _)| *number);
    names.dedup_by_key(|(number, _)| *number);
    names
}

fn name_of(names: &[(i32, String)], number: i32) -> Option<&str> {
    let place = names.binary_search_by_key(&number, |(known, _)| *known).ok()?;
    Some(&names[place].1)
}

fn symbol(names: &[(i32, String)], kind: Kind, number: i32) -> Slot<'_> {
    if kind != Kind::Text {
        return integer(kind, number.into());
    }
    // As in Protobuf's JSON: a number that has no name stands for itself.
    name_of(names, number).map_or_else(|| Slot::Unescaped(number.to_string()), Slot::Text)
}

/// `google.protobuf.Timestamp`: seconds and nanoseconds, merged with what came before.
fn moment<'a>(mut bytes: &[u8], kind: Kind, before: &Slot<'_>) -> Result<Slot<'a>, Fault> {
    let Kind::Timestamp(unit) = kind else { return Ok(Slot::Wrong(format!("expected {kind}, found a time"))) };
    let (mut seconds, mut nanos) = match (before, unit) {
        (Slot::Int(value), TimeUnit::Nanosecond) => (value.div_euclid(1_000_000_000), value.rem_euclid(1_000_000_000)),
        (Slot::Int(value), TimeUnit::Microsecond) => (value.div_euclid(1_000_000), value.rem_euclid(1_000_000) * 1_000),
        (Slot::Int(value), TimeUnit::Millisecond) => (value.div_euclid(1_000), value.rem_euclid(1_000) * 1_000_000),
        (Slot::Int(value), TimeUnit::Second) => (*value, 0),
        _ => (0, 0),
    };
    while !bytes.is_empty() {
        let (number, wire) = decode_key(&mut bytes).map_err(|error| (BAD_DECODE, error.to_string()))?;
        if number > 2 {
            pass(number, wire, &mut bytes)?;
            continue;
        }
        expect(wire, WireType::Varint)?;
        let value = decode_varint(&mut bytes).map_err(|error| (BAD_DECODE, error.to_string()))?;
        if number == 1 { seconds = value as i64 } else { nanos = i64::from(value as i32) }
    }
    let per_second: i128 = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let total = (i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).div_euclid(1_000_000_000 / per_second);
    let wrong = || Slot::Wrong(format!("expected a TIMESTAMP, found {seconds} s and {nanos} ns since 1970"));
    Ok(i64::try_from(total).map_or_else(|_| wrong(), Slot::Int))
}

fn pass(number: u32, wire: WireType, bytes: &mut &[u8]) -> Result<(), Fault> {
    skip_field(wire, number, bytes, DecodeContext::default()).map_err(|error| (BAD_DECODE, error.to_string()))
}

fn expect(found: WireType, expected: WireType) -> Result<(), Fault> {
    let fault = || (BAD_SCHEMA, format!("expected {expected:?} on the wire, found {found:?}"));
    if found == expected { Ok(()) } else { Err(fault()) }
}

fn delimited<'a>(wire: WireType, bytes: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    expect(wire, WireType::LengthDelimited)?;
    let early = || (BAD_DECODE, "the message ends too early".to_owned());
    let length = decode_varint(bytes).map_err(|error| (BAD_DECODE, error.to_string()))?;
    let length = usize::try_from(length).map_err(|_| early())?;
    let (found, rest) = bytes.split_at_checked(length).ok_or_else(early)?;
    *bytes = rest;
    Ok(found)
}

fn fixed<const N: usize>(wire: WireType, expected: WireType, bytes: &mut &[u8]) -> Result<[u8; N], Fault> {
    expect(wire, expected)?;
    let (found, rest) =
        bytes.split_first_chunk::<N>().ok_or_else(|| (BAD_DECODE, "the message ends too early".to_owned()))?;
    *bytes = rest;
    Ok(*found)
}
