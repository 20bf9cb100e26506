//! Events of `collect`. Rule: told when something changes, or once for a round; never once for a record. The agent serves no
//! metrics page: its metrics are what it sends.

/// The machine could not be read in this round.
#[derive(Clone, Copy, Debug)]
pub struct HostUnread<'a> {
    pub error: &'a str,
}

/// The Docker Engine does not answer; it is asked again in each round.
#[derive(Clone, Copy, Debug)]
pub struct EngineAway<'a> {
    pub host: &'a str,
    pub error: &'a str,
    /// There was one, or one was asked for.
    pub is_expected: bool,
}

/// The Docker Engine answers again.
#[derive(Clone, Copy, Debug)]
pub struct EngineBack<'a> {
    pub host: &'a str,
}

/// Containers that run could not be read in this round.
#[derive(Clone, Copy, Debug)]
pub struct ContainersUnread<'a> {
    pub host: &'a str,
    pub count: u64,
    /// Of the last of them.
    pub error: &'a str,
}

/// Records wait for the brokers.
#[derive(Clone, Copy, Debug)]
pub struct OutletWaiting<'a> {
    pub topic: &'a str,
    pub waiting: u64,
    pub error: &'a str,
}

/// The brokers take records again.
#[derive(Clone, Copy, Debug)]
pub struct OutletBack<'a> {
    pub topic: &'a str,
}

/// Records were given up, because they had waited too long or too many of them were waiting.
#[derive(Clone, Copy, Debug)]
pub struct SamplesGivenUp<'a> {
    pub topic: &'a str,
    /// Since this was last told.
    pub records: u64,
    /// Since the start.
    pub total: u64,
    pub error: &'a str,
}

impl HostUnread<'_> {
    pub fn emit(&self) {
        tracing::warn!(error = self.error, "machine not read, this round has no rows of it");
    }
}

impl EngineAway<'_> {
    pub fn emit(&self) {
        let Self { host, error, is_expected } = *self;
        if is_expected {
            tracing::warn!(host, error, "the Docker Engine does not answer, trying again");
        } else {
            tracing::info!(host, error, "no Docker Engine, containers are not read until there is one");
        }
    }
}

impl EngineBack<'_> {
    pub fn emit(&self) {
        tracing::info!(host = self.host, "the Docker Engine answers");
    }
}

impl ContainersUnread<'_> {
    pub fn emit(&self) {
        let Self { host, count, error } = *self;
        tracing::warn!(host, count, error, "containers not read, this round has no rows of them");
    }
}

impl OutletWaiting<'_> {
    pub fn emit(&self) {
        let Self { topic, waiting, error } = *self;
        tracing::warn!(topic, waiting, error, "records wait for Kafka");
    }
}

impl OutletBack<'_> {
    pub fn emit(&self) {
        tracing::info!(topic = self.topic, "Kafka takes records again");
    }
}

impl SamplesGivenUp<'_> {
    pub fn emit(&self) {
        let Self { topic, records, total, error } = *self;
        tracing::warn!(topic, records, total, error, "records given up");
    }
}
