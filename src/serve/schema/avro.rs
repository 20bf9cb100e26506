//! A strict reading of Avro 1.12 schemas, for tests: names, unions, defaults, logical types; whether a JSON record of a
//! topic has an Avro form; and whether one schema reads what another wrote. Rule: an RFC 3339 time in JSON is a `timestamp-millis` in Avro, a pair in JSON is a
//! record of two fields in Avro; everything else is the same.

use std::collections::BTreeMap;

use prescale_domain::Timestamp;
use serde_json::Value;

/// A schema that was found valid.
pub(super) struct AvroSchema {
    root: Kind,
    named: BTreeMap<String, Kind>,
}

#[derive(Clone, Debug)]
enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Text,
    Bytes,
    Moment,
    List(Box<Kind>),
    Map(Box<Kind>),
    Union(Vec<Kind>),
    Symbols(Vec<String>),
    /// Name, type, and whether there is a default.
    Record(Vec<(String, Kind, bool)>),
    Named(String),
}

impl AvroSchema {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut named = BTreeMap::new();
        let root = kind(&schema, &mut named)?;
        Ok(Self { root, named })
    }

    /// Whether a JSON record of the topic has an Avro form, without a field too many.
    pub(super) fn check(&self, record: &Value) -> Result<(), String> {
        self.fits(&self.root, record, "")
    }

    /// Whether every record that was written by `writer` can be read by this schema, as Avro resolves them.
    pub(super) fn reads(&self, writer: &Self) -> Result<(), String> {
        self.resolves(&self.root, writer, &writer.root, "")
    }

    fn resolves(&self, reader: &Kind, other: &Self, writer: &Kind, at: &str) -> Result<(), String> {
        match (reader, writer) {
            (Kind::Named(name), _) => self.resolves(&self.named[name], other, writer, at),
            (_, Kind::Named(name)) => self.resolves(reader, other, &other.named[name], at),
            (_, Kind::Union(branches)) => {
                branches.iter().try_for_each(|branch| self.resolves(reader, other, branch, at))
            }
            (Kind::Union(branches), _) => {
                let read = branches.iter().any(|branch| self.resolves(branch, other, writer, at).is_ok());
                if read { Ok(()) } else { Err(format!("{at}: no branch reads {writer:?}")) }
            }
            (Kind::List(reader), Kind::List(writer)) => self.resolves(reader, other, writer, &format!("{at}[]")),
            (Kind::Map(reader), Kind::Map(writer)) => self.resolves(reader, other, writer, &format!("{at}{{}}")),
            (Kind::Symbols(reader), Kind::Symbols(writer)) => {
                match writer.iter().find(|symbol| !reader.contains(symbol)) {
                    Some(symbol) => Err(format!("{at}: symbol `{symbol}` is not known")),
                    None => Ok(()),
                }
            }
            (Kind::Record(reader), Kind::Record(writer)) => reader.iter().try_for_each(|(name, kind, default)| {
                let at = format!("{at}.{name}");
                match writer.iter().find(|(other, ..)| other == name) {
                    Some((_, written, _)) => self.resolves(kind, other, written, &at),
                    None if *default => Ok(()),
                    None => Err(format!("{at} is not written and has no default")),
                }
            }),
            (Kind::Null, Kind::Null)
            | (Kind::Boolean, Kind::Boolean)
            | (Kind::Moment, Kind::Moment)
            | (Kind::Text | Kind::Bytes, Kind::Text | Kind::Bytes)
            | (Kind::Int, Kind::Int)
            | (Kind::Long, Kind::Int | Kind::Long)
            | (Kind::Float, Kind::Int | Kind::Long | Kind::Float)
            | (Kind::Double, Kind::Int | Kind::Long | Kind::Float | Kind::Double) => Ok(()),
            _ => Err(format!("{at}: {reader:?} does not read {writer:?}")),
        }
    }

    fn fits(&self, kind: &Kind, value: &Value, at: &str) -> Result<(), String> {
        let wrong = || Err(format!("{at}: {value} is not {kind:?}"));
        let fits = match (kind, value) {
            (Kind::Named(name), _) => return self.fits(&self.named[name], value, at),
            (Kind::Union(branches), _) => {
                let faults: Vec<String> =
                    branches.iter().map_while(|branch| self.fits(branch, value, at).err()).collect();
                return if faults.len() < branches.len() { Ok(()) } else { Err(faults.join("; ")) };
            }
            (Kind::List(item), Value::Array(list)) => {
                return list.iter().enumerate().try_for_each(|(k, one)| self.fits(item, one, &format!("{at}[{k}]")));
            }
            (Kind::Map(item), Value::Object(map)) => {
                return map.iter().try_for_each(|(key, one)| self.fits(item, one, &format!("{at}.{key}")));
            }
            (Kind::Record(fields), Value::Object(map)) => return self.record(fields, map, at),
            (Kind::Record(fields), Value::Array(pair)) if pair.len() == fields.len() => {
                return fields
                    .iter()
                    .zip(pair)
                    .try_for_each(|((name, kind, _), one)| self.fits(kind, one, &format!("{at}.{name}")));
            }
            (Kind::Null, Value::Null) | (Kind::Boolean, Value::Bool(_)) => true,
            (Kind::Int, Value::Number(number)) => number.as_i64().is_some_and(|value| i32::try_from(value).is_ok()),
            (Kind::Long, Value::Number(number)) => number.is_i64(),
            (Kind::Float | Kind::Double, Value::Number(_)) | (Kind::Text | Kind::Bytes, Value::String(_)) => true,
            (Kind::Moment, Value::String(text)) => text.parse::<Timestamp>().is_ok(),
            (Kind::Symbols(symbols), Value::String(text)) => symbols.contains(text),
            _ => false,
        };
        if fits { Ok(()) } else { wrong() }
    }

    fn record(
        &self,
        fields: &[(String, Kind, bool)],
        map: &serde_json::Map<String, Value>,
        at: &str,
    ) -> Result<(), String> {
        if let Some(name) = map.keys().find(|name| fields.iter().all(|(field, ..)| field != *name)) {
            return Err(format!("{at}.{name}: the schema has no such field"));
        }
        fields.iter().try_for_each(|(name, kind, default)| match map.get(name) {
            Some(value) => self.fits(kind, value, &format!("{at}.{name}")),
            None if *default => Ok(()),
            None => Err(format!("{at}.{name} is missing and has no default")),
        })
    }
}

fn kind(schema: &Value, named: &mut BTreeMap<String, Kind>) -> Result<Kind, String> {
    match schema {
        Value::String(name) => plain(name).or_else(|| named.contains_key(name).then(|| Kind::Named(name.clone()))),
        Value::Array(branches) => return union(branches, named),
        Value::Object(map) => match (map.get("type").and_then(Value::as_str), map.get("logicalType")) {
            (Some("long"), Some(Value::String(logical))) if logical == "timestamp-millis" => Some(Kind::Moment),
            (_, Some(logical)) => return Err(format!("logical type {logical} is not in use")),
            (Some("array"), _) => Some(Kind::List(Box::new(kind(&map["items"], named)?))),
            (Some("map"), _) => Some(Kind::Map(Box::new(kind(&map["values"], named)?))),
            (Some("enum"), _) => return symbols(map, named),
            (Some("record"), _) => return record(map, named),
            (Some(name), _) => plain(name),
            (None, _) => None,
        },
        _ => None,
    }
    .ok_or_else(|| format!("{schema} is not a type"))
}

fn plain(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "string" => Kind::Text,
        "bytes" => Kind::Bytes,
        _ => return None,
    })
}

fn union(branches: &[Value], named: &mut BTreeMap<String, Kind>) -> Result<Kind, String> {
    let kinds = branches.iter().map(|branch| kind(branch, named)).collect::<Result<Vec<_>, _>>()?;
    let mut tags: Vec<String> = kinds
        .iter()
        .map(|kind| match kind {
            Kind::Named(name) => name.clone(),
            Kind::Union(_) => "union".to_owned(),
            other => format!("{other:?}").split(['(', '[']).next().unwrap_or_default().to_owned(),
        })
        .collect();
    tags.sort();
    if kinds.is_empty() || tags.windows(2).any(|pair| pair[0] == pair[1]) || tags.contains(&"union".to_owned()) {
        return Err(format!("union of {tags:?}"));
    }
    Ok(Kind::Union(kinds))
}

fn symbols(map: &serde_json::Map<String, Value>, named: &mut BTreeMap<String, Kind>) -> Result<Kind, String> {
    let list = map["symbols"].as_array().ok_or("enum without symbols")?;
    let symbols: Vec<String> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    match symbols.iter().find(|symbol| !is_name(symbol)) {
        Some(symbol) => Err(format!("symbol `{symbol}` is not a name")),
        None => define(map, Kind::Symbols(symbols), named),
    }
}

fn record(map: &serde_json::Map<String, Value>, named: &mut BTreeMap<String, Kind>) -> Result<Kind, String> {
    let mut fields: Vec<(String, Kind, bool)> = Vec::new();
    for field in map.get("fields").and_then(Value::as_array).ok_or("record without fields")? {
        let name = field["name"].as_str().filter(|name| is_name(name)).ok_or(format!("{field} has no sound name"))?;
        if fields.iter().any(|(other, ..)| other == name) {
            return Err(format!("field `{name}` is there twice"));
        }
        if let Some(unknown) = field
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys())
            .find(|key| !["name", "type", "doc", "default", "aliases"].contains(&key.as_str()))
        {
            return Err(format!("field `{name}`: attribute `{unknown}`"));
        }
        let kind = kind(&field["type"], named).map_err(|fault| format!("field `{name}`: {fault}"))?;
        // The default of a union is a value of its first branch.
        let default_kind = if let Kind::Union(branches) = &kind { &branches[0] } else { &kind };
        let probe = AvroSchema { root: default_kind.clone(), named: named.clone() };
        if let Some(default) = field.get("default") {
            probe.check(default).map_err(|fault| format!("default of `{name}`{fault}"))?;
        }
        fields.push((name.to_owned(), kind, field.get("default").is_some()));
    }
    define(map, Kind::Record(fields), named)
}

fn define(
    map: &serde_json::Map<String, Value>,
    kind: Kind,
    named: &mut BTreeMap<String, Kind>,
) -> Result<Kind, String> {
    let name =
        map.get("name").and_then(Value::as_str).filter(|name| is_name(name)).ok_or("a type has no sound name")?;
    match named.insert(name.to_owned(), kind) {
        None => Ok(Kind::Named(name.to_owned())),
        Some(_) => Err(format!("type `{name}` is defined twice")),
    }
}

fn is_name(text: &str) -> bool {
    let sound =
        |at: usize, letter: char| letter == '_' || letter.is_ascii_alphabetic() || at > 0 && letter.is_ascii_digit();
    !text.is_empty() && text.chars().enumerate().all(|(at, letter)| sound(at, letter))
}
