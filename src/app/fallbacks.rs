//! Other sources of load than the stream, each asked on a thread of its own. Rule: one that hangs holds up neither the loop nor
//! another source; what it does not tell is told as such.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use prescale_controller::{FallbackBoard, FallbackSettings, Fallbacks, Silence};
use prescale_domain::{Clock, FALLBACK_FRESH_FOR, ServiceName, Span, SystemClock};
use prescale_ingest::history::{InstantQuery, query_instant};

use crate::config::{Config, FallbackSource};

/// How often a wait looks whether the service is stopped.
const STEP: Duration = Duration::from_millis(100);

/// The sources of a configuration at work.
pub(crate) struct Asking {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Begins to ask the sources of all services, once in each fast interval.
pub(crate) fn start(config: &Config, stop: &Arc<AtomicBool>) -> std::io::Result<(Fallbacks, Asking)> {
    let (mut settings, mut sources) = (BTreeMap::new(), BTreeMap::<InstantQuery, Vec<ServiceName>>::new());
    for service in &config.services {
        let Some(source) = &service.fallback else { continue };
        let name = ServiceName::new(&service.name);
        settings.insert(name.clone(), settings_of(source, config));
        let FallbackSource::Prometheus { url, query, service_label, bearer_token, .. } = source;
        let query = InstantQuery {
            url: url.clone(),
            query: query.clone(),
            bearer_token: bearer_token.clone(),
            service_label: service_label.clone(),
        };
        sources.entry(query).or_default().push(name);
    }
    let (fallbacks, board) = Fallbacks::new(settings);
    let every = config.policy.fast_interval.min(config.policy.decision_interval);
    let mut asking = Asking { stop: Arc::clone(stop), threads: Vec::new() };
    for (query, services) in sources {
        let (stop, board) = (Arc::clone(stop), board.clone());
        let work = move || follow(&query, &services, every, &board, &SystemClock, &stop);
        asking.threads.push(thread::Builder::new().name("fallback".to_owned()).spawn(work)?);
    }
    Ok((fallbacks, asking))
}

impl Asking {
    /// Waits for the threads to end.
    pub(crate) fn join(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // A thread that panicked has said so.
            drop(thread.join());
        }
    }
}

fn settings_of(source: &FallbackSource, config: &Config) -> FallbackSettings {
    let FallbackSource::Prometheus { after, fresh_for, .. } = source;
    FallbackSettings {
        source: "prometheus".to_owned(),
        after: after.unwrap_or_else(|| usual_after(config)),
        fresh_for: fresh_for.unwrap_or(FALLBACK_FRESH_FOR),
    }
}

/// Two windows and what they are late: one window that did not come.
fn usual_after(config: &Config) -> Span {
    config.features.step + config.features.step + config.features.lateness
}

/// Asks until it is stopped.
fn follow(
    query: &InstantQuery,
    services: &[ServiceName],
    every: Span,
    board: &FallbackBoard,
    clock: &dyn Clock,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = query_instant(query, clock.now());
        for service in services {
            let told = match &answer {
                Err(error) => Err(Silence { code: error.code().to_owned(), text: error.to_string() }),
                Ok(samples) => {
                    let name = if query.service_label.is_some() { service.as_str() } else { "" };
                    let none = || Silence {
                        code: "no-series".to_owned(),
                        text: format!("`{}`: the query has no load of it", query.url),
                    };
                    samples.get(name).map(|sample| (sample.load, sample.at)).ok_or_else(none)
                }
            };
            board.tell(service, told);
        }
        while begun.elapsed() < every.to_std() && !stop.load(Ordering::Relaxed) {
            thread::sleep(STEP);
        }
    }
}
