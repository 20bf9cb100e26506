//! Answers HPAs, KEDA and Envoy with values from its standard input: to try them with a real control plane.
//!
//! `cargo run -p prescale-adapter --example serve -- settings.toml`, where the file holds `AdapterSettings`; the addresses are
//! printed as one line of JSON. Each line that is read sets values of a service:
//! `web units=3 load=120.5 capacity=50 active=true share=0.7 rate=200 ahead=10m:8`; a value that is left empty (`units=`)
//! is not known any more. Values are of now until a line says `web stale`. It ends with its input.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::error::Error;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use prescale_adapter::fake::{Known, Scripted};
use prescale_adapter::{AdapterSettings, Admission, bind};
use prescale_domain::{Clock as _, Span, SystemClock, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: serve SETTINGS.toml")?;
    let settings: AdapterSettings = toml::from_str(&std::fs::read_to_string(path)?)?;
    let bound = bind(&settings).await?;
    let addresses = bound.addresses();
    println!(
        "{}",
        serde_json::json!({ "metrics": addresses.metrics, "keda": addresses.keda, "ratelimit": addresses.ratelimit })
    );
    let answers = Arc::new(Scripted::new([]));
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(bound.serve(answers.clone(), Arc::new(SystemClock), shutdown.clone()));
    read(&answers).await?;
    shutdown.cancel();
    Ok(serving.await??)
}

/// Until the input ends.
async fn read(answers: &Scripted) -> Result<(), Box<dyn Error>> {
    let (sender, mut lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    let mut again = tokio::time::interval(Duration::from_secs(1));
    let mut fresh: Vec<String> = Vec::new();
    loop {
        tokio::select! {
            line = lines.recv() => {
                let Some(line) = line.transpose()? else { return Ok(()) };
                let mut words = line.split_whitespace();
                let Some(service) = words.next() else { continue };
                let mut is_fresh = true;
                for word in words {
                    if word == "stale" {
                        is_fresh = false;
                        answers.set(service, |known| known.at = Timestamp::from_millis(0));
                    } else if let Err(error) = set(answers, service, word) {
                        eprintln!("`{word}`: {error}");
                    }
                }
                fresh.retain(|known| known != service);
                if is_fresh {
                    answers.set(service, |known| known.at = SystemClock.now());
                    fresh.push(service.to_owned());
                }
            }
            _ = again.tick() => {
                for service in &fresh {
                    answers.set(service, |known| known.at = SystemClock.now());
                }
            }
        }
    }
}

fn set(answers: &Scripted, service: &str, word: &str) -> Result<(), Box<dyn Error>> {
    let (key, value) = word.split_once('=').ok_or("no `=`")?;
    let change: Box<dyn FnOnce(&mut Known)> = match key {
        "units" => {
            let units = optional(value)?;
            Box::new(move |known| known.units = units)
        }
        "load" => {
            let load = optional(value)?;
            Box::new(move |known| known.load = load)
        }
        "capacity" => {
            let capacity = optional(value)?;
            Box::new(move |known| known.unit_capacity = capacity)
        }
        "active" => {
            let active = optional(value)?;
            Box::new(move |known| known.active = active)
        }
        "share" => {
            let share: Option<f64> = optional(value)?;
            Box::new(move |known| known.admission = share.map(|share| Admission { share, rate: None }))
        }
        "rate" => {
            let rate = optional(value)?;
            Box::new(move |known| {
                if let Some(admission) = &mut known.admission {
                    admission.rate = rate;
                }
            })
        }
        "ahead" => {
            let (ahead, units) = value.split_once(':').ok_or("no `:` between the time and the units")?;
            let (ahead, units): (Span, u32) = (ahead.parse()?, units.parse()?);
            Box::new(move |known| known.units_ahead = vec![(ahead, units)])
        }
        _ => return Err("unknown key".into()),
    };
    answers.set(service, change);
    Ok(())
}

fn optional<T: FromStr>(text: &str) -> Result<Option<T>, T::Err> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}
