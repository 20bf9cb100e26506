//! Experiments on live services. Rule: an effect is told with its interval and the verdict that rests on it.

use axum::Json;
use axum::extract::State;
use prescale_controller::view::ExperimentView;
use schemars::JsonSchema;
use serde::Serialize;

use crate::App;

/// `/api/v1/experiments`: in the order of the configuration.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ExperimentsBody {
    experiments: Vec<ExperimentView>,
}

/// Experiments: who is in which arm, the effect (treatment − control; every metric is better when lower) with its interval,
/// which holds whenever one looks, and the verdict of the stop rule.
#[utoipa::path(get, path = "/api/v1/experiments", tag = "experiments",
    responses((status = 200, description = "all experiments", body = ref("#/components/schemas/ExperimentsBody"))))]
pub(crate) async fn experiments(State(app): State<App>) -> Json<ExperimentsBody> {
    let view = app.view();
    Json(ExperimentsBody { experiments: view.experiments.iter().map(|one| ExperimentView::clone(one)).collect() })
}
