//! The schema that records were written with, and which of its fields go into which columns. Rule: only the form of the bytes
//! is handed to arrow-avro (types without names, defaults, logical types or documentation), so that it reads the same bytes
//! for every schema that Avro allows; what they mean is decided here.
//!
//! A type that holds itself is refused. Text is read as bytes and an enum as a number: what they may be is checked for each
//! column, not by the reader, which would fail for all records at once.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use serde_json::{Value, json};

use super::convert::From;
use crate::decode::RegisteredSchema;
use crate::decode::column::{Kind, Planned};
use arrow::datatypes::TimeUnit;

/// A schema may repeat a type by its name; written out it may have so many parts.
const MAX_PARTS: usize = 10_000;

/// The frame that stands for the only schema of a reader.
const FRAME: [u8; 5] = [0; 5];

/// How records of one schema become columns.
#[derive(Clone, Debug)]
pub(super) struct WriterPlan {
    writer: AvroSchema,
    reader: AvroSchema,
    /// By column of the table: its place among the columns that are read, and what they hold; `None` = NULL.
    sources: Vec<Option<(usize, From)>>,
}

impl WriterPlan {
    /// For a schema as JSON; `references` define types that it names.
    pub(super) fn parse(
        text: &str,
        references: &[(String, RegisteredSchema)],
        columns: &[Planned],
    ) -> Result<Self, String> {
        let parse = |text: &str| -> Result<Value, String> {
            // A schema of one word may be written without quotes.
            serde_json::from_str(text).map_err(|error| format!("it is not an Avro schema: {error}"))
        };
        let mut parsed = Vec::new();
        let mut left: Vec<&(String, RegisteredSchema)> = references.iter().collect();
        while let Some((name, reference)) = left.pop() {
            parsed.push(parse(&reference.text).map_err(|error| format!("reference `{name}`: {error}"))?);
            left.extend(&reference.references);
        }
        Self::of(&parse(text)?, &parsed, columns)
    }

    /// For records that Arroyo writes for a table of these columns.
    pub(super) fn of_columns(columns: &[Planned]) -> Result<Self, String> {
        let fields = columns.iter().map(|column| {
            let plain = match column.kind {
                Kind::Bool => json!("boolean"),
                Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::UInt8 | Kind::UInt16 => json!("int"),
                Kind::Int64 | Kind::UInt32 | Kind::UInt64 => json!("long"),
                Kind::Float32 => json!("float"),
                Kind::Float64 => json!("double"),
                Kind::Text => json!("string"),
                Kind::Bytes => json!("bytes"),
                Kind::Date32 => json!({ "type": "int", "logicalType": "date" }),
                Kind::Timestamp(TimeUnit::Second | TimeUnit::Millisecond) => {
                    json!({ "type": "long", "logicalType": "timestamp-millis" })
                }
                Kind::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond) => {
                    json!({ "type": "long", "logicalType": "timestamp-micros" })
                }
            };
            json!({ "name": column.name, "type": if column.nullable { json!(["null", plain]) } else { plain } })
        });
        let fields: Vec<Value> = fields.collect();
        Self::of(&json!({ "type": "record", "name": "table", "fields": fields }), &[], columns)
    }

    fn of(schema: &Value, references: &[Value], columns: &[Planned]) -> Result<Self, String> {
        let mut form = Form::default();
        references.iter().for_each(|reference| form.collect(reference, ""));
        form.collect(schema, "");
        let (record, namespace) = form.record(schema)?;
        let (mut fields, mut wanted) = (Vec::new(), vec![None; columns.len()]);
        let (mut read, mut read_places) = (Vec::new(), 0);
        let list = record.get("fields").and_then(Value::as_array).ok_or("its record has no list of fields")?;
        for (number, field) in list.iter().enumerate() {
            let name =
                field.get("name").and_then(Value::as_str).ok_or_else(|| format!("field {number} has no name"))?;
            let kind = field.get("type").ok_or_else(|| format!("field `{name}` has no type"))?;
            let mut bytes = form.bytes(kind, &namespace).map_err(|error| format!("field `{name}`: {error}"))?;
            let plain_name = format!("f{number}");
            if let Some(column) = columns.iter().position(|column| column.name == name) {
                let wrong = |found: &dyn std::fmt::Display| {
                    format!("column `{name}`: expected {}, found {found} in the writer's schema", columns[column].kind)
                };
                let from = form.meaning(kind, &namespace).map_err(|found| wrong(&found))?;
                if !from.fits(columns[column].kind) {
                    return Err(wrong(&from));
                }
                unchecked(&mut bytes);
                if wanted[column].replace((read_places, from)).is_some() {
                    return Err(format!("field `{name}` is there twice"));
                }
                read.push(json!({ "name": plain_name, "type": bytes }));
                read_places += 1;
            }
            fields.push(json!({ "name": plain_name, "type": bytes }));
        }
        if let Some((column, _)) =
            columns.iter().zip(&wanted).find(|(column, source)| !column.nullable && source.is_none())
        {
            return Err(format!("column `{}`: it is NOT NULL and the writer's schema has no such field", column.name));
        }
        let schema = |fields: Vec<Value>| {
            AvroSchema::new(json!({ "type": "record", "name": "t0", "fields": fields }).to_string())
        };
        let plan = Self { writer: schema(fields), reader: schema(read), sources: wanted };
        plan.reader(1)?;
        Ok(plan)
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = Option<(usize, &From)>> {
        self.sources.iter().map(|source| source.as_ref().map(|(place, from)| (*place, from)))
    }

    fn reader(&self, records: usize) -> Result<Decoder, String> {
        let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
        let set = store.set(Fingerprint::Id(0), self.writer.clone());
        set.and_then(|_| {
            ReaderBuilder::new()
                // One more than there are: a record that turns out to be two is then noticed.
                .with_batch_size(records + 1)
                .with_writer_schema_store(store)
                .with_reader_schema(self.reader.clone())
                .build_decoder()
        })
        .map_err(|error| format!("the schema can't be read by: {error}"))
    }

    /// Reads all records, or says which is the first that can't be read, and why; `None` = some of them, it is not known which.
    pub(super) fn read(&self, records: &[(u32, &[u8])]) -> Result<Vec<ArrayRef>, (Option<usize>, String)> {
        let mut reader = self.reader(records.len()).map_err(|error| (None, error))?;
        for (at, (_, bytes)) in records.iter().enumerate() {
            let room = reader.capacity();
            let fault =
                |error: &dyn std::fmt::Display| (Some(at), format!("the record can't be read by its schema: {error}"));
            reader.decode(&FRAME).map_err(|error| fault(&error))?;
            // A record without bytes is read as soon as there is something behind it, here the beginning of a frame.
            let shown: &[u8] = if bytes.is_empty() { &FRAME[..1] } else { bytes };
            let read = reader.decode(shown).map_err(|error| fault(&error))?;
            if room - reader.capacity() == 0 {
                return Err(fault(&"it ends too early"));
            }
            if read != bytes.len() || room - reader.capacity() != 1 {
                return Err(fault(&"it has more bytes than its schema has fields"));
            }
        }
        match reader.flush() {
            Ok(Some(batch)) => Ok(batch.columns().to_vec()),
            Ok(None) => Err((None, "nothing was read".to_owned())),
            Err(error) => Err((None, error.to_string())),
        }
    }
}

/// Named types that a schema defines, and how far it was written out.
#[derive(Default)]
struct Form<'s> {
    /// By full name: the definition and the namespace that names in it are in.
    names: HashMap<String, (&'s Value, String)>,
    /// Types that are being written out.
    open: Vec<String>,
    parts: usize,
}

impl<'s> Form<'s> {
    fn collect(&mut self, schema: &'s Value, namespace: &str) {
        match schema {
            Value::Array(branches) => branches.iter().for_each(|branch| self.collect(branch, namespace)),
            Value::Object(map) => {
                let inner = match map.get("name").and_then(Value::as_str) {
                    Some(name) if map.get("type").is_some_and(is_named) => {
                        let own = map.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
                        let full = full_name(name, own);
                        let inner = full.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
                        self.names.entry(full).or_insert((schema, inner.clone()));
                        inner
                    }
                    _ => namespace.to_owned(),
                };
                for part in ["type", "items", "values"].iter().filter_map(|part| map.get(*part)) {
                    self.collect(part, &inner);
                }
                let fields = map.get("fields").and_then(Value::as_array).into_iter().flatten();
                fields.filter_map(|field| field.get("type")).for_each(|kind| self.collect(kind, &inner));
            }
            _ => {}
        }
    }

    fn named(&self, name: &str, namespace: &str) -> Result<(String, &'s Value, String), String> {
        let found = [full_name(name, namespace), name.to_owned()].into_iter().find_map(|full| {
            let (schema, inner) = self.names.get(&full)?;
            Some((full, *schema, inner.clone()))
        });
        found.ok_or_else(|| format!("`{name}` is not a type"))
    }

    /// The record that a schema is, and the namespace that names in it are in.
    fn record(&self, schema: &'s Value) -> Result<(&'s serde_json::Map<String, Value>, String), String> {
        match schema {
            Value::Object(map) => match map.get("type") {
                Some(Value::String(kind)) if kind == "record" => {
                    let own = map.get("namespace").and_then(Value::as_str).unwrap_or_default();
                    let full = full_name(map.get("name").and_then(Value::as_str).unwrap_or_default(), own);
                    Ok((map, full.rsplit_once('.').map_or("", |(space, _)| space).to_owned()))
                }
                Some(inner @ Value::Object(_)) => self.record(inner),
                _ => Err("it is not a record".to_owned()),
            },
            Value::String(name) => match self.names.get(name) {
                Some((Value::Object(map), inner)) if map.get("type") == Some(&json!("record")) => {
                    Ok((map, inner.clone()))
                }
                _ => Err("it is not a record".to_owned()),
            },
            _ => Err("it is not a record".to_owned()),
        }
    }

    /// A schema of the same bytes, without anything else.
    fn bytes(&mut self, schema: &'s Value, namespace: &str) -> Result<Value, String> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(format!("written out, the schema has more than {MAX_PARTS} parts"));
        }
        match schema {
            Value::String(name) if is_primitive(name) => Ok(schema.clone()),
            Value::String(name) => {
                let (full, definition, inner) = self.named(name, namespace)?;
                self.definition(&full, definition, &inner)
            }
            Value::Array(branches) => branches.iter().map(|branch| self.bytes(branch, namespace)).collect(),
            Value::Object(map) => match map.get("type") {
                Some(kind) if is_named(kind) => {
                    let name = map.get("name").and_then(Value::as_str).ok_or("a named type has no name")?;
                    let own = map.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
                    let full = full_name(name, own);
                    let inner = full.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
                    self.definition(&full, schema, &inner)
                }
                Some(Value::String(kind)) if kind == "array" || kind == "map" => {
                    let part = if kind == "array" { "items" } else { "values" };
                    let of = map.get(part).ok_or_else(|| format!("{kind} without `{part}`"))?;
                    Ok(json!({ "type": kind, part: self.bytes(of, namespace)? }))
                }
                Some(kind) => self.bytes(kind, namespace),
                None => Err("a type has no `type`".to_owned()),
            },
            other => Err(format!("{other} is not a type")),
        }
    }

    fn definition(&mut self, full: &str, schema: &'s Value, inner: &str) -> Result<Value, String> {
        if self.open.iter().any(|open| open == full) {
            return Err(format!("type `{full}` holds itself, which is not supported"));
        }
        let name = format!("t{}", self.parts);
        match schema["type"].as_str() {
            Some("enum") => {
                let symbols = schema.get("symbols").and_then(Value::as_array);
                let symbols = symbols.filter(|symbols| !symbols.is_empty() && symbols.iter().all(Value::is_string));
                Ok(json!({ "type": "enum", "name": name, "symbols": symbols.ok_or("an enum has no symbols")? }))
            }
            Some("fixed") => {
                let size = schema.get("size").and_then(Value::as_u64).and_then(|size| i32::try_from(size).ok());
                Ok(json!({ "type": "fixed", "name": name, "size": size.ok_or("a fixed type has no sound size")? }))
            }
            _ => {
                self.open.push(full.to_owned());
                let list = schema.get("fields").and_then(Value::as_array).ok_or("a record has no list of fields")?;
                let mut fields = Vec::with_capacity(list.len());
                for (number, field) in list.iter().enumerate() {
                    let kind = field.get("type").ok_or("a field has no type")?;
                    fields.push(json!({ "name": format!("f{number}"), "type": self.bytes(kind, inner)? }));
                }
                self.open.pop();
                Ok(json!({ "type": "record", "name": name, "fields": fields }))
            }
        }
    }

    /// What a field holds; `Err` names what no column can hold.
    fn meaning(&self, schema: &Value, namespace: &str) -> Result<From, String> {
        match schema {
            Value::String(name) => Ok(match name.as_str() {
                "null" => From::Null,
                "boolean" => From::Boolean,
                "int" => From::Int,
                "long" => From::Long,
                "float" => From::Float,
                "double" => From::Double,
                "bytes" => From::Bytes,
                "string" => From::Text,
                "record" | "error" | "array" | "map" | "fixed" => return Err(name.to_string()),
                "enum" => return Err("an enum without symbols".to_owned()),
                other => {
                    let (_, definition, inner) = self.named(other, namespace)?;
                    return self.meaning(definition, &inner);
                }
            }),
            Value::Array(branches) => match &branches[..] {
                [null, one] | [one, null] if null == "null" && one != "null" => self.meaning(one, namespace),
                _ => Err(format!("a union of {} types", branches.len())),
            },
            Value::Object(map) if map.get("type").is_some_and(|kind| kind == "enum") => {
                let symbols = map.get("symbols").and_then(Value::as_array).into_iter().flatten();
                Ok(From::Symbol(symbols.filter_map(Value::as_str).map(str::to_owned).collect()))
            }
            Value::Object(map) => {
                let plain = self.meaning(map.get("type").unwrap_or(&Value::Null), namespace)?;
                let logical = map.get("logicalType").and_then(Value::as_str).unwrap_or_default();
                Ok(match (plain, logical.strip_prefix("local-").unwrap_or(logical)) {
                    (From::Int, "date") => From::Date,
                    (From::Long, "timestamp-millis") => From::Moment(1_000_000),
                    (From::Long, "timestamp-micros") => From::Moment(1_000),
                    (From::Long, "timestamp-nanos") => From::Moment(1),
                    (_, "decimal") => return Err("decimal".to_owned()),
                    // A reader that does not know a logical type takes the plain one.
                    (plain, _) => plain,
                })
            }
            other => Err(other.to_string()),
        }
    }
}

fn unchecked(schema: &mut Value) {
    match schema {
        Value::String(name) if name == "string" => *schema = json!("bytes"),
        Value::Object(map) if map.get("type").is_some_and(|kind| kind == "enum") => *schema = json!("int"),
        Value::Array(branches) => branches.iter_mut().for_each(unchecked),
        _ => {}
    }
}

fn is_primitive(name: &str) -> bool {
    matches!(name, "null" | "boolean" | "int" | "long" | "float" | "double" | "bytes" | "string")
}

fn is_named(kind: &Value) -> bool {
    matches!(kind.as_str(), Some("record" | "error" | "enum" | "fixed"))
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}
