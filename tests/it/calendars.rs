//! Calendars outside Kafka on a real broker. Rule: the events topic says what they say, from when it was known.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use crate::kit;
use crate::kit::config::{SIMULATED, Setup};

const WAIT: Duration = Duration::from_secs(60);

fn ics(end: &str) -> String {
    format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//shop//plan//EN\r\nBEGIN:VEVENT\r\nUID:launch\r\nCATEGORIES:Launch\r\n\
         DTSTAMP:20260101T000000Z\r\nDTSTART:20990501T080000Z\r\nDTEND:{end}\r\nX-PRESCALE-UPLIFT:3\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
}

/// What the events topic says now, by id.
fn told(kafka: &str, topic: &str) -> BTreeMap<String, Value> {
    let mut events = BTreeMap::new();
    for record in kit::try_consume(kafka, topic) {
        let id = String::from_utf8(record.key.clone().unwrap()).unwrap();
        match record.value {
            Some(_) => drop(events.insert(id, record.json())),
            None => drop(events.remove(&id)),
        }
    }
    events
}

/// Answers every request with `body`, until the test ends.
fn serve(body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/plan.csv?version=1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _read = stream.read(&mut request).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn what_calendars_say_is_told_on_the_events_topic_and_taken_back() {
    let Some(kafka) = kit::kafka() else { return };
    let url = serve("id,kind,start,end\nsale,sale,2099-11-27,2099-11-28\n");
    let setup = Setup::new(&kafka, "calendars").service("shop", 5.0, SIMULATED).with(&format!(
        "[calendars]\nfiles = [\"plan.ics\", \"{url}\"]\nholidays = [\"Germany\"]\ntime_zone = \"Europe/Berlin\"\nrefresh = \"1s\""
    ));
    let setup = setup.file("plan.ics", &ics("20990501T100000Z"));
    let topic = setup.topic("events");
    let log = setup.path("log");
    let mut running = kit::Running::start(&["run", "-c", &setup.config()], &log);
    let event = |id: &str| told(&kafka, &topic).remove(id);

    let launch = kit::wait_for("the launch", WAIT, || event("calendar/plan.ics#launch"));
    assert_eq!((&launch["kind"], &launch["end"]), (&"launch".into(), &"2099-05-01T10:00:00Z".into()));
    assert_eq!((&launch["known_at"], &launch["expected_uplift"]), (&"2026-01-01T00:00:00Z".into(), &3.0.into()));
    let id = format!("calendar/{url}#sale");
    let sale = kit::wait_for("the sale", WAIT, || event(&id));
    assert_eq!(sale["start"], "2099-11-26T23:00:00Z", "midnight in Berlin");
    let known_at = sale["known_at"].clone();
    let holidays = told(&kafka, &topic).into_keys().filter(|id| id.starts_with("calendar/holidays/Germany#")).count();
    assert!(holidays >= 27, "{holidays} in three years");

    // A calendar that can't be read changes nothing; one that says something else does.
    std::fs::write(
        setup.path("plan.ics"),
        "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:x\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
    )
    .unwrap();
    kit::wait_for("the fault to be told", WAIT, || running.printed().contains("calendar not read").then_some(()));
    assert!(event("calendar/plan.ics#launch").is_some());
    std::fs::write(setup.path("plan.ics"), ics("20990501T120000Z")).unwrap();
    kit::wait_for("the new end", WAIT, || {
        (event("calendar/plan.ics#launch")?["end"] == "2099-05-01T12:00:00Z").then_some(())
    });
    running.kill();

    // What is known since the first run stays so in the next, and what is gone is taken back.
    std::fs::write(setup.path("plan.ics"), "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nEND:VCALENDAR\r\n").unwrap();
    let mut running = kit::Running::start(&["run", "-c", &setup.config()], &log);
    kit::wait_for("the launch to go", WAIT, || event("calendar/plan.ics#launch").is_none().then_some(()));
    assert_eq!(event(&id).unwrap()["known_at"], known_at);
    running.kill();
}

#[test]
fn calendars_that_can_not_be_are_refused_when_the_configuration_is_read() {
    let setup = Setup::new("127.0.0.1:1", "calendars").service("shop", 5.0, SIMULATED).with(
        "[calendars]\nfiles = [\"plan.txt\"]\nholidays = [\"Atlantis\"]\ntime_zone = \"Mars/Olympus\"\nrefresh = \"0s\"",
    );
    let finished = kit::run(&["check", "-c", &setup.config()]);
    assert_eq!(finished.code, Some(3));
    for place in ["calendars.files[0]", "calendars.holidays[0]", "calendars.time_zone", "calendars.refresh"] {
        assert!(finished.stderr.contains(place), "{place}: {}", finished.stderr);
    }
}
