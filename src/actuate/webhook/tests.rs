//! What a webhook sends, and what becomes of each answer. A receiver in another language checks signatures in
//! `tests/it/webhook.rs`.

use std::collections::VecDeque;
use std::time::Instant;

use prescale_domain::{Decision, Mode, Outcome, Span, Timestamp};
use serde_json::{Value, json};

use super::rules::{backoff, retry_after, shown, signature};
use super::*;
use crate::fake_http::{FakeHttp, Reply};
use crate::{Target, TargetSettings};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const SECRET: &str = "correct horse";

fn decision(desired: u32) -> Decision {
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../../../schemas/samples/decisions.json")).unwrap();
    let mut decision = samples.into_iter().next().unwrap();
    (decision.desired, decision.inputs.mode) = (desired, Mode::Act);
    decision
}

fn status(status: u16) -> Reply {
    Reply::Answer(status, None, String::new())
}

fn says(body: Value) -> Reply {
    Reply::Answer(200, None, body.to_string())
}

/// A receiver that gives these answers in order, and then says yes.
async fn receiver(answers: Vec<Reply>) -> FakeHttp {
    let mut answers = VecDeque::from(answers);
    FakeHttp::start(move |_| answers.pop_front().unwrap_or_else(|| status(204))).await
}

fn settings(receiver: &FakeHttp) -> WebhookSettings {
    let url = format!("http://{}/scale?token=hush", receiver.address);
    WebhookSettings {
        timeout: Span::from_millis(4000),
        attempt_timeout: Span::from_millis(300),
        ..WebhookSettings::new(&url, SECRET, 2, 20)
    }
}

fn target(settings: WebhookSettings) -> Target {
    TargetSettings::Webhook(settings).build().unwrap()
}

#[tokio::test]
async fn a_decision_is_sent_once_signed_and_whole() {
    let receiver = receiver(Vec::new()).await;
    let target = target(settings(&receiver));
    assert_eq!(target.observe(NOW).await.unwrap().desired, 2);
    let wish = decision(9);
    assert_eq!(target.apply(&wish, NOW).await.unwrap(), Outcome::Applied { units: 9, clamped: false });
    assert_eq!(target.apply(&wish, NOW).await.unwrap(), Outcome::Unchanged { units: 9 });
    assert_eq!(target.observe(NOW).await.unwrap().desired, 9);
    assert_eq!(receiver.heard(), ["POST /scale?token=hush"]);
    let asked = receiver.asked.lock().unwrap()[0].clone();
    assert_eq!(asked.header("idempotency-key"), Some(wish.id.0.as_str()));
    assert_eq!(asked.header("prescale-timestamp"), Some("1700000000"));
    let expected = signature(SECRET.as_bytes(), "1700000000", asked.body.as_bytes());
    assert_eq!(asked.header("prescale-signature"), Some(expected.as_str()));
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!((&body["desired"], &body["service"], &body["id"]), (&json!(9), &json!(wish.service), &json!(wish.id)));
    assert_eq!(serde_json::from_value::<Decision>(body["decision"].clone()).unwrap(), wish);
}

#[test]
fn the_signature_is_hmac_sha256_of_time_and_body() {
    // By `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'correct horse'`.
    let expected = "v1=5d35cfb0fa9f7413a489a6f9ba686a22b847b650b32b89dceaa130d28c7fee19";
    assert_eq!(signature(SECRET.as_bytes(), "1700000000", b"{\"a\":1}"), expected);
}

#[tokio::test]
async fn the_first_decision_is_sent_even_if_it_asks_for_what_is_guessed() {
    let receiver = receiver(Vec::new()).await;
    let target = target(WebhookSettings { initial: Some(5), ..settings(&receiver) });
    assert_eq!(target.observe(NOW).await.unwrap().desired, 5);
    assert_eq!(target.apply(&decision(5), NOW).await.unwrap(), Outcome::Applied { units: 5, clamped: false });
    assert_eq!(receiver.heard().len(), 1);
}

#[tokio::test]
async fn wishes_are_clamped_by_the_settings_and_by_what_the_receiver_says() {
    let answers = vec![
        says(json!({"desired": 7, "ready": 3, "min": 1, "max": 7})),
        says(json!({"desired": 4, "held": "paused by its owner"})),
    ];
    let receiver = receiver(answers).await;
    let target = target(settings(&receiver));
    assert_eq!(target.apply(&decision(500), NOW).await.unwrap(), Outcome::Applied { units: 7, clamped: true });
    let state = target.observe(NOW).await.unwrap();
    assert_eq!((state.desired, state.ready, state.min, state.max), (7, Some(3), Some(1), Some(7)));
    assert_eq!(target.apply(&decision(15), NOW).await.unwrap(), Outcome::Unchanged { units: 7 });
    let held = Outcome::Held { units: 4, reason: "paused by its owner".to_owned() };
    assert_eq!(target.apply(&decision(0), NOW).await.unwrap(), held);
    let sent: Vec<Value> =
        receiver.asked.lock().unwrap().iter().map(|asked| serde_json::from_str(&asked.body).unwrap()).collect();
    assert_eq!(sent.iter().map(|body| &body["desired"]).collect::<Vec<_>>(), [&json!(20), &json!(2)]);
}

#[tokio::test]
async fn the_state_is_read_where_there_is_a_place_for_it() {
    let answers = vec![says(json!({"desired": 6, "ready": 5, "max": 8})), says(json!({"desired": 6})), status(200)];
    let receiver = receiver(answers).await;
    let observe_url = Some(format!("http://{}/state", receiver.address));
    let target = target(WebhookSettings { observe_url, ..settings(&receiver) });
    let state = target.observe(NOW).await.unwrap();
    assert_eq!((state.desired, state.ready, state.min, state.max), (6, Some(5), None, Some(8)));
    assert_eq!(target.apply(&decision(6), NOW).await.unwrap(), Outcome::Unchanged { units: 6 });
    assert_eq!(receiver.heard(), ["GET /state", "GET /state"]);
    let signed = receiver.asked.lock().unwrap()[0].header("prescale-signature").unwrap().to_owned();
    assert_eq!(signed, signature(SECRET.as_bytes(), "1700000000", b""));
    let error = target.observe(NOW).await.unwrap_err();
    assert!(error.code() == "other" && error.to_string().contains("no state"), "{error}");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_with_the_same_key() {
    for miss in [status(503), status(429), Reply::Silence, Reply::Close] {
        let receiver = receiver(vec![miss.clone(), miss.clone()]).await;
        let outcome = target(settings(&receiver)).apply(&decision(9), NOW).await;
        assert_eq!(outcome.unwrap(), Outcome::Applied { units: 9, clamped: false }, "{miss:?}");
        let asked = receiver.asked.lock().unwrap().clone();
        let keys: Vec<_> = asked.iter().map(|asked| asked.header("idempotency-key").unwrap()).collect();
        assert_eq!(keys, [decision(9).id.0.as_str(); 3], "{miss:?}");
        assert_eq!(asked[0].body, asked[2].body);
    }
}

#[tokio::test]
async fn each_failure_has_its_kind_and_comes_in_time() {
    let always = |reply: &Reply| vec![reply.clone(); 30];
    let cases = [
        (status(500), "other", 2..30),
        (status(504), "timeout", 2..30),
        (status(429), "throttled", 2..30),
        (Reply::Silence, "timeout", 2..30),
        (Reply::Close, "unreachable", 2..30),
        (status(400), "invalid", 1..2),
        (status(302), "invalid", 1..2),
        (status(401), "denied", 1..2),
        (status(403), "denied", 1..2),
        (status(404), "not-found", 1..2),
        (status(409), "conflict", 1..2),
    ];
    for (reply, code, attempts) in cases {
        let receiver = receiver(always(&reply)).await;
        // Only silence is to be waited for in vain: on a busy machine an answer, or the end of a connection, takes its time.
        let (timeout, attempt_timeout) = match code {
            "timeout" => (Span::from_millis(1200), settings(&receiver).attempt_timeout),
            _ if attempts == (1..2) => (Span::from_secs(4), Span::from_secs(4)),
            _ => (Span::from_secs(3), Span::from_millis(2500)),
        };
        let short = WebhookSettings { timeout, attempt_timeout, ..settings(&receiver) };
        let start = Instant::now();
        let error = target(short).apply(&decision(9), NOW).await.unwrap_err();
        assert!(start.elapsed().as_millis() < 5000, "{reply:?} took {:?}", start.elapsed());
        assert_eq!(error.code(), code, "{reply:?} became {error}");
        assert!(attempts.contains(&receiver.heard().len()), "{reply:?}: {} attempts", receiver.heard().len());
        let text = format!("{error} {error:?}");
        assert!(text.contains("/scale") && !text.contains("hush") && !text.contains(SECRET), "{text}");
    }
}

#[tokio::test]
async fn who_wants_to_be_left_alone_is() {
    let later = |seconds: &str| Reply::Answer(429, Some(("retry-after", seconds.to_owned())), "busy".to_owned());
    let patient = receiver(vec![later("1")]).await;
    let start = Instant::now();
    target(settings(&patient)).apply(&decision(9), NOW).await.unwrap();
    assert!(start.elapsed().as_millis() >= 1000);
    // Longer than the limit: told at once.
    let impatient = receiver(vec![later("60")]).await;
    let start = Instant::now();
    let error = target(settings(&impatient)).apply(&decision(9), NOW).await.unwrap_err();
    assert!(start.elapsed().as_millis() < 3000 && error.code() == "throttled", "{error}");
    assert_eq!(impatient.heard().len(), 1);
}

#[test]
fn waits_grow_and_are_the_same_for_the_same_decision() {
    for attempt in 0..40 {
        let full = (250_i64 << attempt.min(5)).min(8000);
        let wait = backoff("d-1", attempt).millis();
        assert!((full / 2..=full).contains(&wait), "attempt {attempt}: {wait}");
        assert_eq!(backoff("d-1", attempt), backoff("d-1", attempt));
    }
    let others: std::collections::BTreeSet<_> =
        (0..50).map(|number| backoff(&format!("d-{number}"), 3).millis()).collect();
    assert!(others.len() > 25, "{others:?}");
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    assert_eq!(retry_after("120", NOW), Some(Span::from_secs(120)));
    assert_eq!(retry_after("Tue, 14 Nov 2023 22:13:50 GMT", NOW), Some(Span::from_secs(30)));
    assert_eq!(retry_after("Tue, 14 Nov 2023 22:13:00 GMT", NOW), Some(Span::ZERO));
    for wrong in ["", "-1", "soon", "1e3"] {
        assert_eq!(retry_after(wrong, NOW), None, "{wrong}");
    }
}

#[test]
fn urls_are_shown_without_what_may_be_secret() {
    for (url, expected) in [
        ("https://user:pass@example.com/a/b?token=x#y", "https://example.com/a/b"),
        ("http://example.com", "http://example.com"),
        ("example.com/path", "example.com/path"),
        ("", ""),
    ] {
        assert_eq!(shown(url), expected);
    }
}

#[test]
fn settings_are_checked_and_the_secret_is_never_shown() {
    let read = |text: &str| serde_json::from_str::<TargetSettings>(text).unwrap();
    let good = read(r#"{"kind": "webhook", "url": "https://h/x", "secret": "s3", "min": 1, "max": 9}"#);
    assert_eq!(good.faults(), Vec::<String>::new());
    let shown = format!("{good:?} {}", serde_json::to_string(&good).unwrap());
    assert!(!shown.contains("s3") && shown.contains("***"), "{shown}");
    let wrong = read(
        r#"{"kind": "webhook", "url": "ftp://h/x", "observe_url": "state", "secret": "", "min": 1, "max": 9,
            "timeout": "1s", "attempt_timeout": "2s"}"#,
    );
    assert_eq!(
        wrong.faults(),
        [
            "url `ftp://h/x` is not an http:// or https:// URL",
            "observe_url `state` is not an http:// or https:// URL",
            "secret is empty: the receiver could not tell who sends",
            "timeout 1s is below attempt_timeout 2s",
        ]
    );
}
