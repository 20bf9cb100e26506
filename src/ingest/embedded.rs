//! A broker inside the process: librdkafka's mock cluster, for the demo and for tests. Rule: it is never offered as a
//! real broker: nothing is kept on disk, a partition holds at most 5 MiB, and topics are created here, not by clients.

use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use thiserror::Error;

use crate::kafka::KafkaSettings;

/// The embedded broker could not do what was asked.
#[derive(Debug, Error)]
pub enum EmbeddedBrokerError {
    #[error("embedded broker: start: {0}")]
    Start(String),
    #[error("embedded broker: topic `{topic}`: {error}")]
    Topic { topic: String, error: String },
    #[error("embedded broker: {0}")]
    Broker(String),
}

enum Command {
    Topic { name: String, partitions: i32 },
    Up(bool),
}

type Request = (Command, Sender<Result<(), KafkaError>>);

/// A running broker on 127.0.0.1; it ends when this is dropped.
pub struct EmbeddedBroker {
    bootstrap_servers: String,
    /// `None` only while dropping.
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedBroker {
    /// Starts a broker on a free port.
    pub fn start() -> Result<Self, EmbeddedBrokerError> {
        let (started, wait) = mpsc::channel();
        let (requests, inbox) = mpsc::channel::<Request>();
        // The cluster's handle can't leave its thread.
        let thread = thread::Builder::new()
            .name("embedded-broker".to_owned())
            .spawn(move || {
                let cluster = match MockCluster::new(1) {
                    Ok(cluster) => cluster,
                    Err(error) => return drop(started.send(Err(error.to_string()))),
                };
                drop(started.send(Ok(cluster.bootstrap_servers())));
                for (command, reply) in inbox {
                    let result = match command {
                        Command::Topic { name, partitions } => cluster.create_topic(&name, partitions, 1),
                        Command::Up(true) => cluster.broker_up(1),
                        Command::Up(false) => cluster.broker_down(1),
                    };
                    // Nobody waits any more when this fails.
                    drop(reply.send(result));
                }
            })
            .map_err(|error| EmbeddedBrokerError::Start(error.to_string()))?;
        let bootstrap_servers = wait
            .recv()
            .map_err(|error| EmbeddedBrokerError::Start(error.to_string()))?
            .map_err(EmbeddedBrokerError::Start)?;
        Ok(Self { bootstrap_servers, requests: Some(requests), thread: Some(thread) })
    }

    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Settings with which clients reach it. It answers a waiting fetch when its time is up, not when a record comes,
    /// so that the time is short here.
    pub fn settings(&self) -> KafkaSettings {
        KafkaSettings::new(&self.bootstrap_servers).with("consumer.fetch.wait.max.ms", "1")
    }

    /// Creates a topic that does not exist yet.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), EmbeddedBrokerError> {
        let command = Command::Topic { name: name.to_owned(), partitions };
        self.ask(command).map_err(|error| EmbeddedBrokerError::Topic { topic: name.to_owned(), error })
    }

    /// Takes the broker out of reach, or back.
    pub fn set_up(&self, up: bool) -> Result<(), EmbeddedBrokerError> {
        self.ask(Command::Up(up)).map_err(EmbeddedBrokerError::Broker)
    }

    fn ask(&self, command: Command) -> Result<(), String> {
        let (reply, wait) = mpsc::channel();
        let requests = self.requests.as_ref().ok_or("stopped")?;
        requests.send((command, reply)).map_err(|_| "stopped")?;
        wait.recv().map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add while dropping.
            drop(thread.join());
        }
    }
}
