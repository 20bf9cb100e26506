//! The OpenAPI 3.1 document. Rule: paths come from the handlers, schemas from the wire types, nothing is written twice.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use utoipa::OpenApi;

use crate::problem::Problem;
use crate::schema::BODIES;
use crate::{api, events, experiments, live, pause, shadow};

#[derive(OpenApi)]
#[openapi(
    info(title = "Prescale", description = "What Prescale sees, forecasts and decides.", license(name = "Apache-2.0")),
    paths(
        api::healthz,
        api::readyz,
        api::metrics,
        api::services,
        api::service,
        api::forecast,
        api::models,
        api::decisions,
        api::decision,
        events::events,
        events::event,
        events::put_event,
        events::delete_event,
        experiments::experiments,
        pause::pauses,
        pause::pause,
        pause::resume,
        pause::pause_service,
        pause::resume_service,
        shadow::shadow,
        shadow::service_shadow,
        live::snapshot,
        live::stream,
        api::openapi
    ),
    tags(
        (name = "services", description = "Services, their load, forecast and capacity"),
        (name = "decisions", description = "Recorded decisions with inputs and reasons"),
        (name = "pause", description = "Stopping all changes"),
        (name = "shadow", description = "What would have run beside what really ran"),
        (name = "events", description = "The event calendar"),
        (name = "experiments", description = "Two policies against each other on live services"),
        (name = "live", description = "What a dashboard follows"),
        (name = "operation", description = "Health, metrics, this document")
    )
)]
struct Paths;

/// The document. Its schemas are JSON Schema 2020-12, which OpenAPI 3.1 takes as they are.
pub(crate) fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    generator.subschema_for::<Problem>();
    for (_, add) in BODIES {
        add(&mut generator);
    }
    // What utoipa makes is plain data: it always has a JSON form.
    let mut document = serde_json::to_value(Paths::openapi()).unwrap_or_default();
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["components"]["schemas"] = Value::Object(generator.take_definitions(true));
    document
}
