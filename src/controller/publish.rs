//! Results on their topics. Rule: keyed by service, in order; what can't be published now is in the store and is said.

use prescale_domain::{Actuation, LoadWeights, QosAdvice, QuantileForecast, ServiceName, Span};
use prescale_ingest::kafka::KafkaSink;
use serde::Serialize;

use crate::settings::OutTopics;

/// Writes decisions, forecasts and actuations to Kafka; without a sink they are only kept.
pub(crate) struct Publisher {
    sink: Option<KafkaSink>,
    topics: OutTopics,
    /// The last failure since the last good flush.
    pub(crate) failure: Option<String>,
}

impl Publisher {
    pub(crate) fn new(sink: Option<KafkaSink>, topics: OutTopics) -> Self {
        Self { sink, topics, failure: None }
    }

    /// A decision in its recorded form.
    pub(crate) fn decision(&mut self, service: &ServiceName, recorded: &[u8]) {
        let topic = self.topics.decisions.clone();
        self.send(&topic, service.as_str(), recorded);
    }

    pub(crate) fn forecast(&mut self, forecast: &QuantileForecast) {
        let topic = self.topics.forecasts.clone();
        self.send_json(&topic, forecast.service.as_str(), forecast);
    }

    pub(crate) fn actuation(&mut self, actuation: &Actuation) {
        let topic = self.topics.actuations.clone();
        self.send_json(&topic, actuation.service.as_str(), actuation);
    }

    pub(crate) fn advice(&mut self, advice: &QosAdvice) {
        let topic = self.topics.qos.clone();
        self.send_json(&topic, advice.service.as_str(), advice);
    }

    pub(crate) fn weights(&mut self, weights: &LoadWeights) {
        let topic = self.topics.weights.clone();
        self.send_json(&topic, weights.service.as_str(), weights);
    }

    /// Waits until all that was sent has arrived.
    pub(crate) fn flush(&mut self, timeout: Span) {
        if let Some(sink) = &mut self.sink {
            self.failure = sink.flush(timeout).err().map(|error| error.to_string());
        }
    }

    fn send_json(&mut self, topic: &str, key: &str, value: &impl Serialize) {
        // Serialising our own types can't fail: text keys, finite numbers.
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        self.send(topic, key, &bytes);
    }

    fn send(&mut self, topic: &str, key: &str, value: &[u8]) {
        let Some(sink) = &mut self.sink else { return };
        if let Err(error) = sink.send(topic, None, Some(key.as_bytes()), value, &[]) {
            self.failure = Some(error.to_string());
        }
    }
}
