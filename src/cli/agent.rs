//! `prescale agent`: what this machine and its containers use, as records of the `metrics` topic.

use std::io::{BufWriter, stdout};
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use prescale_collect::{
    AgentSettings, CollectError, DEFAULT_DOCKER_HOST, DockerUse, KafkaOutlet, KafkaOutletSettings, Outlet, run,
};
use prescale_domain::{ServiceName, Span, SystemClock};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Failure, runtime, say};
use crate::config;

/// Send what this machine and its containers use to the `metrics` topic.
///
/// Every interval: processors, memory, load, network and disks of the machine, under the name of `--service`; processors,
/// memory and network of each running container, under the name in its label `prescale.service`, else that of its Compose or
/// swarm service, else its own. pipelines/metrics.sql makes features of them.
///
/// While Kafka is away the records of the last five minutes wait, 20,000 at most; older ones are given up and counted. A Docker
/// Engine may come and go.
#[derive(Args)]
#[command(group = ArgGroup::new("outlet").required(true).multiple(true).args(["config", "brokers", "stdout"]))]
#[command(
    after_help = "Examples:\n  prescale agent -c prescale.toml\n  prescale agent --brokers kafka:9092 --interval 5s --service vm-fleet\n  prescale agent --stdout --once | jq ."
)]
pub(crate) struct Arguments {
    /// Configuration file, whose [kafka] says where the brokers are and how to speak to them.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The brokers, in place of the configuration's.
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// Where the records go.
    #[arg(long, value_name = "TOPIC", default_value = "metrics")]
    topic: String,
    /// From round to round.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    interval: Span,
    /// The service that the machine's own metrics are of.
    #[arg(long, value_name = "NAME", default_value = "host")]
    service: String,
    /// Whether containers are read: `auto` = where and as long as there is an engine; `on` = none is an error at the start.
    #[arg(long, value_enum, default_value = "auto")]
    docker: DockerArgument,
    /// The engine: unix:///path/of/a/socket or tcp://host:port.
    #[arg(long, value_name = "URL", default_value = DEFAULT_DOCKER_HOST)]
    docker_host: String,
    /// One round; it fails where Kafka has not taken it within 30 seconds.
    #[arg(long)]
    once: bool,
    /// Print the records, one JSON object a line, in place of sending them.
    #[arg(long, conflicts_with_all = ["config", "brokers", "topic"])]
    stdout: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DockerArgument {
    On,
    Off,
    Auto,
}

pub(crate) fn agent(arguments: &Arguments) -> Result<(), Failure> {
    let settings = AgentSettings {
        interval: arguments.interval,
        service: ServiceName::new(&arguments.service),
        docker: match arguments.docker {
            DockerArgument::On => DockerUse::On,
            DockerArgument::Off => DockerUse::Off,
            DockerArgument::Auto => DockerUse::Auto,
        },
        docker_host: arguments.docker_host.clone(),
        once: arguments.once,
    };
    let mut outlet = outlet(arguments)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signal(stop.clone());
        run(&settings, &SystemClock, &mut outlet, &stop).await
    });
    // A file system that hangs, which the machine was asked about, is not waited for.
    runtime.shutdown_background();
    let summary = ended.map_err(|error| match error {
        CollectError::Settings(_) | CollectError::Producer(_) => Failure::invalid(error),
        CollectError::Encode(_) => Failure::Bug(error.to_string()),
        _ => Failure::outside(error),
    })?;
    say(&format!("{} rounds, {} records, {} given up", summary.rounds, summary.records, summary.given_up));
    Ok(())
}

fn outlet(arguments: &Arguments) -> Result<Outlet, Failure> {
    if arguments.stdout {
        return Ok(Outlet::lines(BufWriter::new(stdout())));
    }
    let loaded = arguments.config.as_deref().map(config::load).transpose().map_err(Failure::invalid)?;
    let kafka = loaded.map(|loaded| loaded.config.kafka);
    let configured = kafka.as_ref().map(|kafka| kafka.bootstrap_servers.clone());
    let servers = arguments.brokers.clone().or(configured).unwrap_or_default();
    let client = kafka.map(|kafka| kafka.client).unwrap_or_default();
    let settings = KafkaOutletSettings { client, ..KafkaOutletSettings::new(&servers, &arguments.topic) };
    KafkaOutlet::open(settings).map(Outlet::Kafka).map_err(Failure::invalid)
}

/// Ctrl-C and SIGTERM end it in order.
fn stop_on_signal(stop: CancellationToken) {
    tokio::spawn(async move {
        let terminated = async {
            match signal(SignalKind::terminate()) {
                Ok(mut signal) => drop(signal.recv().await),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminated => {}
        }
        stop.cancel();
    });
}
