//! The JSON Schemas in `schemas/`. Rule: generated from the types that are read and written; a test compares them with
//! the committed files.

#[cfg(test)]
mod avro;
#[cfg(test)]
mod tests;

use prescale_domain::{
    Actuation, CalendarEvent, CapacityRecord, Decision, LoadWeights, Progress, QosAdvice, QuantileForecast,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::body::{DecisionsBody, ForecastBody, HealthBody, ModelsBody, ReadyBody, ServiceBody, ServicesBody};
use crate::event_body::{EventBody, EventInput, EventsBody};
use crate::experiments::ExperimentsBody;
use crate::live::Frame;
use crate::pause::PausesBody;
use crate::shadow::ShadowBody;

type Add = fn(&mut SchemaGenerator) -> Schema;

/// File stem and type of each body of the API.
pub(crate) const BODIES: &[(&str, Add)] = &[
    ("api-decision", SchemaGenerator::subschema_for::<Decision>),
    ("api-decisions", SchemaGenerator::subschema_for::<DecisionsBody>),
    ("api-event", SchemaGenerator::subschema_for::<EventBody>),
    ("api-event-input", SchemaGenerator::subschema_for::<EventInput>),
    ("api-events", SchemaGenerator::subschema_for::<EventsBody>),
    ("api-experiments", SchemaGenerator::subschema_for::<ExperimentsBody>),
    ("api-forecast", SchemaGenerator::subschema_for::<ForecastBody>),
    ("api-frame", SchemaGenerator::subschema_for::<Frame>),
    ("api-health", SchemaGenerator::subschema_for::<HealthBody>),
    ("api-models", SchemaGenerator::subschema_for::<ModelsBody>),
    ("api-pauses", SchemaGenerator::subschema_for::<PausesBody>),
    ("api-ready", SchemaGenerator::subschema_for::<ReadyBody>),
    ("api-service", SchemaGenerator::subschema_for::<ServiceBody>),
    ("api-services", SchemaGenerator::subschema_for::<ServicesBody>),
    ("api-shadow", SchemaGenerator::subschema_for::<ShadowBody>),
];

/// File name and schema of everything in `schemas/` that is made from code, in order of name.
pub fn json_schemas() -> Vec<(String, Value)> {
    let mut schemas = vec![
        ("actuation".to_owned(), record::<Actuation>("A record of the actuations topic")),
        ("capacity".to_owned(), record::<CapacityRecord>("A record of the capacity topic")),
        ("decision".to_owned(), record::<Decision>("A record of the decisions topic")),
        ("event".to_owned(), record::<CalendarEvent>("A record of the events topic; a tombstone deletes")),
        ("features".to_owned(), features()),
        ("weights".to_owned(), record::<LoadWeights>("A record of the weights topic")),
        ("qos".to_owned(), record::<QosAdvice>("A record of the qos topic")),
        ("forecast".to_owned(), record::<QuantileForecast>("A record of the forecasts topic")),
    ];
    for (name, add) in BODIES {
        let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
        let root = add(&mut generator);
        let mut schema = json!({ "$schema": DIALECT, "title": *name });
        schema["$ref"] = root.as_value()["$ref"].clone();
        schema["$defs"] = Value::Object(generator.take_definitions(true));
        schemas.push(((*name).to_owned(), schema));
    }
    schemas.sort_by(|one, other| one.0.cmp(&other.0));
    schemas.into_iter().map(|(name, schema)| (format!("{name}.schema.json"), schema)).collect()
}

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

fn record<T: JsonSchema>(title: &str) -> Value {
    let mut schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), json!(title));
    schema.to_value()
}

/// A record of the features topic: a flat row, whose measures are named by the pipeline, or a progress record. Written
/// by hand, since on the wire the row is flat.
fn features() -> Value {
    let mut progress = without_dialect(record::<Progress>("How far a pipeline has come"));
    // What it refers to is looked for at the root.
    let inner = progress.as_object_mut().and_then(|fields| fields.remove("$defs"));
    let mut schema = json!({
        "$schema": DIALECT,
        "title": "A record of the features topic",
        "oneOf": [{ "$ref": "#/$defs/Row" }, { "$ref": "#/$defs/ProgressRecord" }],
        "$defs": {
            "Row": {
                "description": "One service's measures over one closed window [window_start, window_end).",
                "type": "object",
                "properties": {
                    "service": { "type": "string", "minLength": 1 },
                    "window_start": { "type": "string", "format": "date-time" },
                    "window_end": { "type": "string", "format": "date-time" }
                },
                "required": ["service", "window_start", "window_end"],
                "not": { "required": ["progress"] },
                "additionalProperties": {
                    "description": "A measure (null = unknown), or a label such as `metric`.",
                    "type": ["number", "boolean", "string", "null"]
                }
            },
            "ProgressRecord": {
                "description": "Written to every partition after the rows that it covers.",
                "type": "object",
                "properties": { "progress": { "$ref": "#/$defs/Progress" } },
                "required": ["progress"],
                "additionalProperties": false
            },
            "Progress": progress
        }
    });
    if let (Some(Value::Object(inner)), Some(defs)) = (inner, schema["$defs"].as_object_mut()) {
        defs.extend(inner);
    }
    schema
}

fn without_dialect(mut schema: Value) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("$schema");
    }
    schema
}
