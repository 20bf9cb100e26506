//! The calendar over HTTP, on a topic that the loop reads at once, or never, or that does not answer.

use std::net::SocketAddr;
use std::sync::Mutex;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Method, Request};
use prescale_controller::view::Handle;
use prescale_domain::Span;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::fake::{self, MemoryEvents};
use crate::{Writers, router};

const MINUTE: i64 = 2220;

/// The made-up world with a calendar that can be changed.
struct World {
    view: watch::Sender<Arc<View>>,
    handle: Handle,
}

impl World {
    fn new() -> Self {
        let (view, handle) = fake::handle(MINUTE);
        let log = MemoryEvents { view: view.clone() };
        Self { view, handle: Handle { event_log: Some(Arc::new(log)), ..handle } }
    }

    fn with(self, log: impl EventLog + 'static) -> Self {
        Self { handle: Handle { event_log: Some(Arc::new(log)), ..self.handle }, ..self }
    }

    /// Moves the clock of the loop on.
    fn pass(&self, minutes: i64) {
        self.view.send_modify(|view| {
            let view = Arc::make_mut(view);
            view.now = view.now + Span::from_minutes(minutes);
        });
    }

    fn request(&self, request: Request<Body>) -> (u16, Value) {
        let app = App::new(self.handle.clone(), CancellationToken::new());
        answer(app, request)
    }

    fn ask(&self, method: Method, path: &str, body: &str) -> (u16, Value) {
        self.request(
            local(method, path).header("content-type", "application/json").body(body.to_owned().into()).unwrap(),
        )
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Method::GET, path, "")
    }

    fn put(&self, id: &str, body: &Value) -> (u16, Value) {
        self.ask(Method::PUT, &format!("/api/v1/events/{id}"), &body.to_string())
    }

    fn delete(&self, id: &str) -> (u16, Value) {
        self.ask(Method::DELETE, &format!("/api/v1/events/{id}"), "")
    }

    /// Ids in the list at `path`.
    #[track_caller]
    fn ids(&self, path: &str) -> Vec<String> {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        let events = body["events"].as_array().unwrap();
        events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// A request of a program on this machine.
fn local(method: Method, path: &str) -> axum::http::request::Builder {
    let peer: SocketAddr = "127.0.0.1:50000".parse().unwrap();
    Request::builder().method(method).uri(path).extension(ConnectInfo(peer)).header("host", "127.0.0.1:8080")
}

/// Status and JSON body; null where there is none.
fn answer(app: App, request: Request<Body>) -> (u16, Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = router(app).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
    })
}

fn sale(start: &str, end: &str) -> Value {
    json!({ "kind": "sale", "services": ["checkout"], "start": start, "end": end, "expected_uplift": 2.0 })
}

fn friday() -> Value {
    sale("2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z")
}

#[track_caller]
fn problem((status, body): &(u16, Value), code: &str, expected: u16, detail: &str) {
    assert_eq!((*status, body["type"].as_str()), (expected, Some(&*format!("urn:prescale:problem:{code}"))), "{body}");
    let told = body["detail"].as_str().unwrap();
    assert!(told.contains(detail), "{detail:?} is not in {told:?}");
}

#[test]
fn an_event_is_told_changed_and_taken_back() {
    let world = World::new();
    let (status, told) = world.put("black%20friday%2F1", &friday());
    assert_eq!(status, 201, "{told}");
    let expected = json!({
        "id": "black friday/1", "kind": "sale", "services": ["checkout"], "start": "2026-11-27T00:00:00Z",
        "end": "2026-11-28T00:00:00Z", "expected_uplift": 2.0, "known_at": world.handle.view.borrow().now, "source": null
    });
    assert_eq!(told, expected);
    assert_eq!(world.get("/api/v1/events/black%20friday%2F1"), (200, told.clone()));
    assert_eq!(world.ids("/api/v1/events"), ["autumn-sale", "black friday/1"]);

    // Told again as it is, it stays known since then; told otherwise, it is known as such from now on.
    world.pass(5);
    assert_eq!(world.put("black%20friday%2F1", &friday()), (200, told.clone()));
    let longer = sale("2026-11-27T00:00:00Z", "2026-11-29T00:00:00Z");
    let (status, changed) = world.put("black%20friday%2F1", &longer);
    assert_eq!((status, &changed["end"]), (200, &json!("2026-11-29T00:00:00Z")));
    assert_eq!(changed["known_at"], json!(world.handle.view.borrow().now));
    assert_ne!(changed["known_at"], told["known_at"]);

    assert_eq!(world.delete("black%20friday%2F1"), (204, Value::Null));
    let gone = world.get("/api/v1/events/black%20friday%2F1");
    problem(&gone, "unknown-event", 404, "event `black friday/1` is not known now");
    problem(&world.delete("black%20friday%2F1"), "unknown-event", 404, "not known");
    assert_eq!(world.ids("/api/v1/events"), ["autumn-sale"]);
}

#[test]
fn lists_are_by_start_and_cut_by_service_time_and_page() {
    let world = World::new();
    let mut all = vec!["autumn-sale".to_owned()];
    for day in 10..30 {
        let (id, services) = (format!("day-{day}"), if day % 2 == 0 { json!(["search"]) } else { json!([]) });
        let mut event = sale(&format!("2026-12-{day}T00:00:00Z"), &format!("2026-12-{day}T12:00:00Z"));
        event["services"] = services;
        assert_eq!(world.put(&id, &event).0, 201);
        all.push(id);
    }
    assert_eq!(world.ids("/api/v1/events"), all);
    let odd = |id: &&String| id.ends_with(['1', '3', '5', '7', '9']);
    let mut expected: Vec<&String> = all[1..].iter().filter(odd).collect();
    expected.insert(0, &all[0]);
    assert_eq!(world.ids("/api/v1/events?service=checkout").iter().collect::<Vec<_>>(), expected);
    let between = "/api/v1/events?from=2026-12-12T12:00:00Z&to=2026-12-15T00:00:00Z";
    assert_eq!(world.ids(between), ["day-13", "day-14"], "an event that ends at from, or starts at to, is not of it");

    let (mut ids, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/events?limit=4{after}");
        ids.extend(world.ids(&path));
        let Some(next) = world.get(&path).1["next"].as_str().map(str::to_owned) else { break };
        after = format!("&after={}", next.replace('#', "%23"));
    }
    assert_eq!(ids, all);

    for (query, text) in [
        ("limit=0", "limit 0 is not in 1..500"),
        ("from=yesterday", "from `yesterday` is not an RFC 3339 time"),
        ("from=2026-12-12T12:00:00Z&to=2026-12-12T12:00:00Z", "is not before to"),
        ("after=x", "after `x` is not the `next` of a page"),
        ("offset=3", "offset"),
    ] {
        problem(&world.get(&format!("/api/v1/events?{query}")), "bad-request", 400, text);
    }
    problem(&world.get("/api/v1/events?service=nobody"), "unknown-service", 404, "`nobody`");
}

#[test]
fn faults_of_a_body_are_listed_with_their_places() {
    let world = World::new();
    let mut wrong = friday();
    wrong["known_at"] = json!("2020-01-01T00:00:00Z");
    wrong["end"] = json!("2026-11-26T00:00:00Z");
    let answer = world.put("sale", &wrong);
    problem(&answer, "invalid-event", 422, "#/known_at is set by the server, to now: leave it out; #/end 2026-11-26");
    let places: Vec<&str> =
        answer.1["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
    assert_eq!(places, ["#/known_at", "#/end"]);
    problem(&world.ask(Method::PUT, "/api/v1/events/sale", "{"), "bad-request", 400, "the body is no JSON: EOF");
    problem(&world.put("a%0Ab", &friday()), "bad-request", 400, "the id of the event");
    let large = " ".repeat(BODY_MAX + 1);
    problem(&world.ask(Method::PUT, "/api/v1/events/sale", &large), "too-large", 413, "longer than 262144 bytes");
    let form = local(Method::PUT, "/api/v1/events/sale").header("content-type", "text/plain");
    problem(&world.request(form.body(friday().to_string().into()).unwrap()), "not-json", 415, "`text/plain`");
    assert_eq!(world.ids("/api/v1/events"), ["autumn-sale"], "nothing was told");
}

#[test]
fn what_a_calendar_tells_is_changed_in_the_calendar() {
    let world = World::new();
    let id = "calendar/plan.ics#launch@example.com";
    world.view.send_modify(|view| {
        let view = Arc::make_mut(view);
        let launch = CalendarEvent { id: id.to_owned(), ..view.events[0].clone() };
        view.events.push(launch);
    });
    let path = "calendar%2Fplan.ics%23launch%40example.com";
    assert_eq!(world.get(&format!("/api/v1/events/{path}")).1["source"], "plan.ics");
    for answer in [world.put(path, &friday()), world.delete(path)] {
        problem(&answer, "event-of-a-calendar", 409, "is told by the calendar `plan.ics`: change it there");
    }
    assert_eq!(world.put("calendar%2Fmine", &friday()).0, 409, "the beginning is reserved");
}

#[test]
fn who_may_not_change_things_is_told_so_and_changes_nothing() {
    let world = World::new();
    let from = |peer: &str| ConnectInfo(peer.parse::<SocketAddr>().unwrap());
    let request = |method: Method| Request::builder().method(method).uri("/api/v1/events/autumn-sale");
    for method in [Method::PUT, Method::DELETE] {
        let answer = world.request(request(method.clone()).extension(from("10.0.0.7:1")).body(Body::empty()).unwrap());
        problem(&answer, "not-permitted", 403, "10.0.0.7 is another machine; call 127.0.0.1 from this machine");
        let answer = world.request(request(method).body(Body::empty()).unwrap());
        problem(&answer, "not-permitted", 403, "nobody knows where the caller is");
    }
    let page = local(Method::DELETE, "/api/v1/events/autumn-sale").header("origin", "http://example.com");
    problem(&world.request(page.body(Body::empty()).unwrap()), "not-permitted", 403, "a page of another origin");
    assert_eq!(world.ids("/api/v1/events"), ["autumn-sale"]);
    // Whoever is let in from outside may.
    let app = App::new(world.handle.clone(), CancellationToken::new()).with_writers(Writers::Anyone);
    let outside = request(Method::DELETE).extension(from("10.0.0.7:1")).body(Body::empty()).unwrap();
    assert_eq!(answer(app, outside).0, 204);
}

#[test]
fn every_operation_that_changes_something_is_closed_to_strangers() {
    let world = World::new();
    let document = crate::openapi::document();
    let mut closed = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().filter(|method| *method != "get") {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let uri = path.replace(['{', '}'], "");
            let (status, body) = world.request(Request::builder().method(method).uri(uri).body(Body::empty()).unwrap());
            assert_eq!((status, body["status"].as_u64()), (403, Some(403)), "{path}");
            closed.push(path.clone());
        }
    }
    let expected = [
        "/api/v1/events/{id}",
        "/api/v1/events/{id}",
        "/api/v1/pause",
        "/api/v1/resume",
        "/api/v1/services/{service}/pause",
        "/api/v1/services/{service}/resume",
    ];
    assert_eq!(closed, expected);
}

/// A topic that does not answer.
struct Silent;

impl EventLog for Silent {
    fn tell(&self, _: CalendarEvent) -> Result<CalendarEvent, String> {
        Err("1 records not acknowledged after 5s".to_owned())
    }

    fn take_back(&self, _: &str) -> Result<(), String> {
        panic!("a writer that breaks")
    }
}

#[test]
fn without_kafka_nothing_changes_and_the_answer_says_what_to_do() {
    let world = World::new().with(Silent);
    let answer = world.put("sale", &friday());
    problem(
        &answer,
        "events-unavailable",
        503,
        "1 records not acknowledged after 5s; nothing will be written later: ask again",
    );
    problem(&world.delete("autumn-sale"), "events-unavailable", 503, "panicked");
    assert_eq!(world.ids("/api/v1/events"), ["autumn-sale"]);
}

/// A topic that nobody reads.
#[derive(Default)]
struct Unread {
    told: Mutex<Vec<String>>,
}

impl EventLog for Unread {
    fn tell(&self, event: CalendarEvent) -> Result<CalendarEvent, String> {
        self.told.lock().unwrap().push(event.id.clone());
        Ok(CalendarEvent { known_at: Timestamp::from_millis(1), ..event })
    }

    fn take_back(&self, id: &str) -> Result<(), String> {
        self.told.lock().unwrap().push(id.to_owned());
        Ok(())
    }
}

#[test]
fn what_the_loop_has_not_read_back_yet_is_accepted() {
    let world = World::new().with(Unread::default());
    let (status, told) = world.put("sale", &friday());
    assert_eq!((status, &told["known_at"]), (202, &json!("1970-01-01T00:00:00.001Z")));
    assert_eq!(world.delete("autumn-sale"), (202, Value::Null));
}

#[test]
fn a_replay_takes_no_events() {
    let world = World::new();
    let world = World { handle: Handle { event_log: None, ..world.handle.clone() }, ..world };
    problem(&world.put("sale", &friday()), "replay", 409, "this is a replay");
    problem(&world.delete("autumn-sale"), "replay", 409, "this is a replay");
}

#[test]
fn a_method_that_an_event_does_not_take_is_refused_with_those_that_it_takes() {
    let world = World::new();
    let app = App::new(world.handle.clone(), CancellationToken::new());
    let request = local(Method::POST, "/api/v1/events/x").body(Body::empty()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let response = runtime.block_on(router(app).oneshot(request)).unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (405, &"GET,HEAD,PUT,DELETE".parse().unwrap())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_bytes_are_sent_the_answer_is_a_problem_of_the_caller(
        id in "[a-z0-9%]{1,12}",
        body in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), "[\\[{\"a-z:, 0-9]{0,60}".prop_map(String::into_bytes)],
    ) {
        let world = World::new();
        let uri = format!("/api/v1/events/{id}");
        // Some of them are no URIs at all.
        if let Ok(uri) = uri.parse::<axum::http::Uri>() {
            let request = local(Method::PUT, "/").uri(uri).header("content-type", "application/json");
            let (status, problem) = world.request(request.body(body.into()).unwrap());
            prop_assert!((400..500).contains(&status), "{status} {problem}");
            prop_assert!(problem["detail"].is_string());
        }
    }
}
