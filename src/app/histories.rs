//! Histories that the configuration names. Rule: one that is wrong ends the start with its reason; a server out of reach
//! does not.

use std::collections::BTreeMap;
use std::path::Path;

use prescale_domain::{Clock, Series, ServiceName, Timestamp};
use prescale_features::first_window;
use prescale_ingest::history::{Histories, HistoryError, PrometheusQuery, query_prometheus, read_history};
use prescale_store::Store;
use prescale_telemetry::controller::HistoryUnread;

use crate::cli::Failure;
use crate::config::{Config, HistorySource, Loaded};

/// What may be filled in before what `store` holds, by service.
pub(crate) fn to_back_fill(
    loaded: &Loaded,
    store: &dyn Store,
    clock: &dyn Clock,
) -> Result<BTreeMap<ServiceName, Series>, Failure> {
    let (now, mut found) = (clock.now(), BTreeMap::new());
    let mut sources = Sources::new(loaded, now);
    for service in &loaded.config.services {
        let Some(history) = &service.history else { continue };
        let name = ServiceName::new(&service.name);
        // What is held already need not be asked for again.
        let held_from = first_window(store, &name).map_err(Failure::outside)?;
        let until = held_from.unwrap_or(now).min(now);
        match sources.series(history, &name, &service.signal, until) {
            Ok(series) => found.extend(series.map(|series| (name, series))),
            Err(error) if error.is_passing() => {
                HistoryUnread { service: &service.name, error: &error.to_string() }.emit();
            }
            Err(error) => return Err(Failure::Invalid(format!("service `{}`: {error}", service.name))),
        }
    }
    Ok(found)
}

/// All of what the configuration names, up to now.
pub(crate) fn configured(loaded: &Loaded, clock: &dyn Clock) -> Result<BTreeMap<ServiceName, Series>, Failure> {
    let (now, mut found) = (clock.now(), BTreeMap::new());
    let mut sources = Sources::new(loaded, now);
    for service in &loaded.config.services {
        let Some(history) = &service.history else { continue };
        let name = ServiceName::new(&service.name);
        let series = sources.series(history, &name, &service.signal, now).map_err(|error| {
            let text = format!("service `{}`: {error}", service.name);
            if error.is_passing() { Failure::Outside(text) } else { Failure::Invalid(text) }
        })?;
        found.extend(series.map(|series| (name, series)));
    }
    Ok(found)
}

/// Sources that were read; several services may share one.
struct Sources<'a> {
    config: &'a Config,
    directory: &'a Path,
    now: Timestamp,
    read: Vec<(HistorySource, String, Timestamp, Histories)>,
}

impl<'a> Sources<'a> {
    fn new(loaded: &'a Loaded, now: Timestamp) -> Self {
        Self { config: &loaded.config, directory: &loaded.directory, now, read: Vec::new() }
    }

    /// The history of one service; `None` = a server has none of it.
    fn series(
        &mut self,
        source: &HistorySource,
        service: &ServiceName,
        signal: &str,
        until: Timestamp,
    ) -> Result<Option<Series>, HistoryError> {
        let step = self.config.features.step;
        let known = self.read.iter().position(|(of, column, to, _)| of == source && column == signal && *to >= until);
        let index = match known {
            Some(index) => index,
            None => {
                let histories = self.ask(source, signal, until)?;
                self.read.push((source.clone(), signal.to_owned(), until, histories));
                self.read.len() - 1
            }
        };
        let histories = &self.read[index].3;
        if matches!(source, HistorySource::Prometheus { .. }) && !histories.has(service) {
            return Ok(None);
        }
        histories.series(Some(service), step).map(Some)
    }

    fn ask(&self, source: &HistorySource, signal: &str, until: Timestamp) -> Result<Histories, HistoryError> {
        match source {
            HistorySource::File { path, columns } => read_history(&self.directory.join(path), columns, &[signal]),
            HistorySource::Prometheus { url, query, service_label, bearer_token, from, to } => {
                let to = to.unwrap_or(until).min(until);
                let from = from.unwrap_or(self.now - self.config.features.retention);
                query_prometheus(&PrometheusQuery {
                    url: url.clone(),
                    query: query.clone(),
                    bearer_token: bearer_token.clone(),
                    service_label: service_label.clone(),
                    from,
                    to,
                    step: self.config.features.step,
                })
            }
        }
    }
}
