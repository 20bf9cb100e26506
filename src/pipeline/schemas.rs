//! Writer schemas out of a registry, before the records that name them are decoded. Rule: a registry that can't be asked holds
//! the pipeline back and loses nothing; only what it says it does not have is unknown, and that for a while, since somebody may
//! register it yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use prescale_ingest::RawBatch;
use prescale_ingest::decode::{Decoder, RegisteredSchema};
use prescale_ingest::registry::{Registry, RegistryError};
use prescale_telemetry::pipeline::{RegistryBack, RegistryDelayed, SchemaResolved};

use crate::PipelineError;
use crate::sql::SourceOptions;

/// How long an id counts as unknown before the registry is asked again.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// How often a wait looks whether the pipeline is stopped.
const STEP: Duration = Duration::from_millis(50);

/// The registry of one source.
pub(crate) struct Schemas {
    pipeline: String,
    /// `None` = its records name no schemas.
    registry: Option<Arc<Registry>>,
    /// Since when there is an id that the registry did not have.
    unknown_since: Option<Instant>,
}

impl Schemas {
    pub(crate) fn new(pipeline: &str, table: &str, options: &SourceOptions) -> Result<Self, PipelineError> {
        let registry = match &options.schema_registry {
            _ if !options.format.needs_registry() => None,
            Some(settings) => {
                let registry = Registry::open(settings);
                Some(Arc::new(registry.map_err(|error| PipelineError::Registry { error: error.to_string() })?))
            }
            None => {
                let error = format!(
                    "table `{table}` reads records that name their schemas by id, and no registry is given\nhint: write schema_registry.endpoint = 'https://host:port' in its WITH, or endpoint under [schema_registry] in the configuration"
                );
                return Err(PipelineError::Registry { error });
            }
        };
        Ok(Self { pipeline: pipeline.to_owned(), registry, unknown_since: None })
    }

    /// Tells the decoder all schemas that it needs for a batch; `false` when stopped before the registry could be asked.
    pub(crate) fn supply(&mut self, decoder: &mut Decoder, raw: &RawBatch, stop: &AtomicBool) -> bool {
        let Some(registry) = self.registry.clone() else { return true };
        if self.unknown_since.is_some_and(|since| since.elapsed() >= UNKNOWN_FOR) {
            self.unknown_since = None;
            decoder.forget_unknown();
        }
        for id in decoder.lacks(raw) {
            let Some(schema) = self.fetch(&registry, id, stop) else { return false };
            if schema.is_none() {
                self.unknown_since.get_or_insert_with(Instant::now);
            }
            let kind = schema.as_ref().map(|schema| schema.kind.name());
            SchemaResolved { pipeline: &self.pipeline, id, kind }.emit();
            decoder.learn(id, schema.as_ref());
        }
        true
    }

    /// Asks until there is an answer; the outer `None` = stopped before that.
    fn fetch(&self, registry: &Arc<Registry>, id: u32, stop: &AtomicBool) -> Option<Option<RegisteredSchema>> {
        let mut failures = 0;
        loop {
            match ask(registry, id, stop)? {
                Ok(schema) => {
                    if failures > 0 {
                        let endpoint = registry.endpoint();
                        RegistryBack { pipeline: &self.pipeline, endpoint, attempts: failures + 1 }.emit();
                    }
                    return Some(schema);
                }
                Err(error) => {
                    failures += 1;
                    let (endpoint, error) = (registry.endpoint(), error.to_string());
                    RegistryDelayed { pipeline: &self.pipeline, endpoint, id, attempt: failures, error: &error }.emit();
                    for _ in 0..(1_u32 << failures.min(6)) {
                        if stop.load(Ordering::Relaxed) {
                            return None;
                        }
                        thread::sleep(STEP);
                    }
                }
            }
        }
    }
}

type Answer = Result<Option<RegisteredSchema>, RegistryError>;

/// One request, on a thread of its own: it may hang for longer than a stop should take. `None` = stopped.
fn ask(registry: &Arc<Registry>, id: u32, stop: &AtomicBool) -> Option<Answer> {
    let (sender, receiver) = channel();
    let asking = Arc::clone(registry);
    let work = move || {
        // Whoever asked may have been stopped and be gone.
        drop(sender.send(asking.schema(id)));
    };
    if thread::Builder::new().name("schema registry".into()).spawn(work).is_err() {
        return Some(registry.schema(id));
    }
    loop {
        match receiver.recv_timeout(STEP) {
            Ok(answer) => return Some(answer),
            Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => return None,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let (endpoint, error) = (registry.endpoint().to_owned(), "the request broke off".to_owned());
                return Some(Err(RegistryError::Unreachable { endpoint, error }));
            }
        }
    }
}
