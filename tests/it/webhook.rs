//! A webhook against a receiver that is written in another language, by what the documents say. Rule: the receiver has the last
//! word on signatures and on how often something came.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use prescale_actuate::{Actuator, Target, TargetSettings, WebhookSettings};
use prescale_domain::{Decision, Mode, Outcome, Timestamp};
use serde_json::Value;

use crate::kit;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// The sample of a decision, to act, with another capacity.
fn decision(desired: u32) -> Decision {
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../../schemas/samples/decisions.json")).unwrap();
    let mut decision = samples.into_iter().next().unwrap();
    (decision.desired, decision.inputs.mode) = (desired, Mode::Act);
    decision
}

/// The receiver, ended with its holder.
struct Receiver {
    child: Child,
    lines: BufReader<ChildStdout>,
    url: String,
}

impl Receiver {
    fn start(script: &[&str]) -> Self {
        let mut command = Command::new("python3");
        command.arg(kit::root().join("tests/kit/receiver.py")).arg("s3cret").args(script);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut port = String::new();
        lines.read_line(&mut port).unwrap();
        Self { child, lines, url: format!("http://127.0.0.1:{}/", port.trim()) }
    }

    fn target(&self, secret: &str) -> Target {
        let settings =
            WebhookSettings { observe_url: Some(self.url.clone()), ..WebhookSettings::new(&self.url, secret, 1, 50) };
        TargetSettings::Webhook(settings).build().unwrap()
    }

    /// Method and status of each call, and the keys of those that had one.
    fn ended(mut self) -> (Vec<String>, Vec<String>) {
        self.child.kill().unwrap();
        let calls: Vec<Value> =
            self.lines.by_ref().lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        let words = calls.iter().map(|call| format!("{} {}", call["method"].as_str().unwrap(), call["status"]));
        (words.collect(), calls.iter().filter_map(|call| Some(call["key"].as_str()?.to_owned())).collect())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn a_receiver_by_the_book_takes_what_is_sent() {
    let receiver = Receiver::start(&["503", "429"]);
    let target = receiver.target("s3cret");
    let state = target.observe(NOW).await.unwrap();
    assert_eq!((state.desired, state.ready, state.min, state.max), (3, Some(3), Some(1), Some(12)));
    let wish = decision(40);
    assert_eq!(target.apply(&wish, NOW).await.unwrap(), Outcome::Applied { units: 12, clamped: true });
    assert_eq!(target.apply(&wish, NOW).await.unwrap(), Outcome::Unchanged { units: 12 });
    assert_eq!(target.observe(NOW).await.unwrap().desired, 12);
    let (calls, keys) = receiver.ended();
    assert_eq!(calls, ["GET 200", "GET 200", "POST 503", "POST 429", "POST 200", "GET 200", "GET 200"]);
    assert_eq!(keys, [wish.id.0.as_str(); 3]);
}

#[tokio::test]
async fn a_wrong_secret_is_refused_once() {
    let receiver = Receiver::start(&[]);
    let error = receiver.target("guessed").apply(&decision(5), NOW).await.unwrap_err();
    assert_eq!(error.code(), "denied", "{error}");
    assert_eq!(receiver.ended().0, ["GET 401"]);
}
