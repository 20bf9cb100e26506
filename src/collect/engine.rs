//! The containers of a Docker Engine, read over its API. Rule: each call has a time limit, and so has a look at all of them; a
//! container that is gone before it was asked is no failure.

use std::pin::pin;
use std::time::{Duration, Instant};

use bollard::errors::Error as Bollard;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder, StatsOptionsBuilder};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::StreamExt;
use futures::stream;

use crate::container::{ContainerReading, Listed, listed};

/// Where the engine of this machine listens, unless its owner moved it.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// For one call, in seconds.
const CALL_SECONDS: u64 = 5;
/// For a look at all containers.
const LOOK: Duration = Duration::from_secs(10);
/// Containers that are asked at the same time.
const AT_ONCE: usize = 16;

/// One engine; it connects at its first use.
pub(crate) struct Engine {
    host: String,
    client: Option<Docker>,
}

/// The running containers.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub(crate) containers: Vec<ContainerReading>,
    /// Why a container that still runs could not be read, and how many there were.
    pub(crate) unread: Option<(String, u64)>,
}

impl Engine {
    pub(crate) fn new(host: &str) -> Self {
        Self { host: host.to_owned(), client: None }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// What is wrong with an address.
    pub(crate) fn fault(host: &str) -> Option<String> {
        let address = ["unix://", "tcp://", "http://"].iter().find_map(|scheme| host.strip_prefix(scheme));
        let bad = address.is_none_or(str::is_empty);
        bad.then(|| format!("docker host `{host}` is neither unix:///path/of/a/socket nor tcp://host:port"))
    }

    /// The client, once the engine has said which version of the API it speaks.
    pub(crate) async fn client(&mut self) -> Result<Docker, String> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = match self.host.strip_prefix("unix://") {
            Some(path) => Docker::connect_with_unix(path, CALL_SECONDS, API_DEFAULT_VERSION),
            None => Docker::connect_with_http(&self.host, CALL_SECONDS, API_DEFAULT_VERSION),
        };
        let client = client.map_err(|error| first_cause(&error))?;
        let client = in_time(client.negotiate_version()).await?;
        self.client = Some(client.clone());
        Ok(client)
    }

    /// Reads every running container; `begun` is where the readings' clock starts.
    pub(crate) async fn look(&mut self, begun: Instant) -> Result<Look, String> {
        let client = self.client().await?;
        let options = ListContainersOptionsBuilder::default().all(false).build();
        let answer = in_time(client.list_containers(Some(options))).await;
        let found = answer.inspect_err(|_| self.client = None)?;
        let found: Vec<Listed> = found.iter().filter_map(listed).collect();
        let each = found.into_iter().map(|listed| read(client.clone(), listed, begun));
        let mut reading = pin!(stream::iter(each).buffer_unordered(AT_ONCE));
        let mut look = Look::default();
        let all = async {
            while let Some(read) = reading.next().await {
                match read {
                    Ok(container) => look.containers.extend(container),
                    Err(error) => look.unread = Some((error, look.unread.as_ref().map_or(0, |(_, count)| *count) + 1)),
                }
            }
        };
        if tokio::time::timeout(LOOK, all).await.is_err() {
            // Those that were read are as good as ever.
            look.unread = Some((format!("not all containers were read within {} s", LOOK.as_secs()), 1));
        }
        look.containers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(look)
    }
}

/// `None` = it is gone.
async fn read(client: Docker, listed: Listed, begun: Instant) -> Result<Option<ContainerReading>, String> {
    match tokio::time::timeout(Duration::from_secs(CALL_SECONDS), ask(&client, listed, begun)).await {
        Ok(Ok(reading)) => Ok(reading),
        Ok(Err(Bollard::DockerResponseServerError { status_code: 404 | 409, .. })) => Ok(None),
        Ok(Err(error)) => Err(first_cause(&error)),
        Err(_) => Err(no_answer()),
    }
}

async fn ask(client: &Docker, listed: Listed, begun: Instant) -> Result<Option<ContainerReading>, Bollard> {
    let id = listed.id.clone();
    let told = client.inspect_container(&id, None::<InspectContainerOptions>).await?;
    // One shot: the engine would otherwise wait a second for a second reading, and we have one from the round before.
    let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
    let mut answers = pin!(client.stats(&id, Some(options)));
    let stats = answers.next().await.transpose()?;
    Ok(stats.map(|stats| ContainerReading::new(listed, &told, &stats, begun.elapsed())))
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Bollard>>) -> Result<T, String> {
    match tokio::time::timeout(Duration::from_secs(CALL_SECONDS), answer).await {
        Ok(answer) => answer.map_err(|error| first_cause(&error)),
        Err(_) => Err(no_answer()),
    }
}

fn no_answer() -> String {
    format!("no answer within {CALL_SECONDS} s")
}

/// The innermost cause: the outer ones only say that something failed.
fn first_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_socket_or_a_port() {
        for host in [DEFAULT_HOST, "tcp://10.0.0.1:2375", "http://10.0.0.1:2375"] {
            assert_eq!(Engine::fault(host), None);
        }
        for host in ["", "unix://", "/var/run/docker.sock", "https://10.0.0.1"] {
            assert!(Engine::fault(host).unwrap().contains(host), "{host}");
        }
    }
}
