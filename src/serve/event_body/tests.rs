//! What a client may tell of an event, and what it is told when it tells something else.

use std::sync::LazyLock;

use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::json_schemas;

fn told() -> Value {
    json!({
        "kind": "campaign", "services": ["checkout"], "start": "2026-11-27T08:00:00Z", "end": "2026-11-27T20:00:00+01:00",
        "expected_uplift": 1.6
    })
}

/// The event that is told in [`told`] with one field changed; null = without it.
fn with(field: &str, value: Value) -> Value {
    let mut told = told();
    let fields = told.as_object_mut().unwrap();
    if value.is_null() {
        fields.remove(field);
    } else {
        fields.insert(field.to_owned(), value);
    }
    told
}

#[track_caller]
fn refused(body: &Value, expected: &[(&str, &str)]) {
    let faults = EventInput::read(body).unwrap_err();
    let places: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(places, expected.iter().map(|(pointer, _)| *pointer).collect::<Vec<_>>(), "{faults:?}");
    for (fault, (_, text)) in faults.iter().zip(expected) {
        assert!(fault.detail.contains(text), "{text:?} is not in {fault:?}");
    }
}

#[test]
fn what_is_needed_is_little() {
    let input = EventInput::read(&told()).unwrap();
    assert_eq!(input.end.to_string(), "2026-11-27T19:00:00Z");
    assert_eq!((input.services.as_slice(), input.expected_uplift), (&[ServiceName::new("checkout")][..], Some(1.6)));
    let least = json!({ "kind": "sale", "start": "2026-11-27T08:00:00Z", "end": "2026-11-28T08:00:00Z" });
    let input = EventInput::read(&least).unwrap();
    assert_eq!((input.services.len(), input.expected_uplift), (0, None));
    // Null says the same as nothing.
    let mut least = least;
    least["expected_uplift"] = Value::Null;
    assert_eq!(EventInput::read(&least).unwrap(), input);
    // As with the topic, the service may be one that nobody knows here.
    EventInput::read(&with("services", json!(["elsewhere"]))).unwrap();
}

#[test]
fn a_field_that_can_not_be_is_named_with_what_to_write_instead() {
    for (field, value, text) in [
        ("kind", Value::Null, "is missing: give a word such as campaign"),
        ("kind", json!(""), "is empty"),
        ("kind", json!(7), "`7` is no text"),
        ("kind", json!("x".repeat(201)), "its 201 characters are more than 200"),
        ("kind", json!("a\u{0}b"), "control characters"),
        ("services", json!("checkout"), "is no list: give a list of names, or leave it out for all services"),
        ("services", json!(vec!["a"; 1001]), "1001 names are more than 1000"),
        ("start", Value::Null, "is missing: give an RFC 3339 time such as"),
        ("start", json!("tomorrow"), "`\"tomorrow\"` is no time: give an RFC 3339 time such as"),
        ("start", json!("2026-11-27T08:00:00"), "is no time"),
        ("end", json!(1_764_230_400), "is no time"),
        ("start", json!("1969-12-31T23:59:59Z"), "1969-12-31T23:59:59Z is not between 1970 and 2500"),
        ("end", json!("2026-11-27T08:00:00Z"), "is not after start, 2026-11-27T08:00:00Z"),
        ("end", json!("2062-11-27T08:00:00Z"), "is more than 366 days after start"),
        ("expected_uplift", json!(0), "0 is not above 0"),
        ("expected_uplift", json!(-1.5), "-1.5 is not above 0"),
        ("expected_uplift", json!("2"), "is no number: give the expected load as a multiple of the usual"),
        ("known_at", json!("2020-01-01T00:00:00Z"), "is set by the server, to now: leave it out"),
        ("id", json!("sale"), "is in the path"),
        ("source", json!("plan.ics"), "leave it out"),
        ("colour", json!("red"), "is no field of an event: those are kind, services, start, end, expected_uplift"),
    ] {
        refused(&with(field, value), &[(format!("#/{field}").as_str(), text)]);
    }
    refused(
        &with("services", json!(["a", "", 3])),
        &[("#/services/1", "is empty"), ("#/services/2", "`3` is no text")],
    );
    refused(&with("a/b~c", json!(1)), &[("#/a~1b~0c", "no field")]);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let body = json!({ "kind": "", "start": "x", "uplift": 2.0 });
    let expected = [("#/uplift", "no field"), ("#/kind", "empty"), ("#/start", "no time"), ("#/end", "missing")];
    refused(&body, &expected);
    for body in [json!(null), json!([]), json!("sale"), json!(3)] {
        refused(&body, &[("#", "is no object such as {\"kind\"")]);
    }
}

#[test]
fn ids_can_be_shown_and_found() {
    for id in ["sale", "2026/autumn sale #1", "größe", "a.b~c"] {
        checked_id(id).unwrap();
    }
    for (id, text) in [("", "is empty"), (" ", "is empty"), ("a\nb", "control"), (&*"x".repeat(201), "201 characters")]
    {
        assert!(checked_id(id).unwrap_err().contains(text), "{id}");
    }
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("2026-11-27T08:00:00Z")),
        Just(json!("9999-12-31T23:59:60Z")),
        Just(json!("0000-01-01T00:00:00+23:59")),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let name = prop_oneof![prop::sample::select(FIELDS.to_vec()).prop_map(str::to_owned), ".{0,8}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..6).prop_map(|fields| json!(fields)),
        ]
    })
}

/// An event as it should be, with some of its fields replaced.
fn nearly_an_event() -> impl Strategy<Value = Value> {
    let changes = prop::collection::vec((prop::sample::select(FIELDS.to_vec()), arbitrary_json()), 0..3);
    changes.prop_map(|changes| {
        changes.into_iter().fold(told(), |mut event, (field, value)| {
            event[field] = value;
            event
        })
    })
}

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let (_, schema) = json_schemas().into_iter().find(|(name, _)| name == "api-event-input.schema.json").unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
});

proptest! {
    #[test]
    fn whatever_is_sent_is_an_event_that_conforms_to_the_schema_or_has_faults_with_a_place(
        body in prop_oneof![arbitrary_json(), nearly_an_event()]
    ) {
        match EventInput::read(&body) {
            Ok(input) => {
                prop_assert!(input.start < input.end);
                let mut told = body.clone();
                if told["expected_uplift"].is_null() {
                    told.as_object_mut().unwrap().remove("expected_uplift");
                }
                let written = serde_json::to_value(&input).unwrap();
                for sent in [&told, &written] {
                    prop_assert!(SCHEMA.is_valid(sent), "{sent}");
                }
                // What was understood is told on the topic, and read from there.
                let event: CalendarEvent = serde_json::from_value(json!(input.clone().event("x"))).unwrap();
                prop_assert!(input.says(&event));
            }
            Err(faults) => {
                prop_assert!(!faults.is_empty());
                prop_assert!(faults.iter().all(|fault| fault.pointer.starts_with('#') && !fault.detail.is_empty()));
            }
        }
    }
}
