//! Who is let in, and what others are told.

use axum::http::{HeaderName, HeaderValue};

use super::*;

/// What a caller is told that sends these headers; empty = it is let in.
fn told(peer: Option<&str>, writers: Writers, headers: &[(&'static str, &'static str)]) -> String {
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
    let peer = peer.map(|peer| peer.parse().unwrap());
    let refused = another_origin(&headers).or_else(|| match writers {
        Writers::Local => not_local(&headers, peer),
        Writers::Anyone => None,
    });
    refused.unwrap_or_default()
}

#[track_caller]
fn let_in(peer: &str, writers: Writers, headers: &[(&'static str, &'static str)]) {
    assert_eq!(told(Some(peer), writers, headers), "");
}

#[track_caller]
fn refused(peer: Option<&str>, writers: Writers, headers: &[(&'static str, &'static str)], why: &str) {
    let told = told(peer, writers, headers);
    assert!(told.contains(why), "{told:?}");
}

#[test]
fn programs_on_this_machine_are_let_in() {
    for host in ["127.0.0.1:8080", "127.0.0.1", "localhost:8080", "LocalHost", "[::1]:8080", "[::1]"] {
        let_in("127.0.0.1", Writers::Local, &[("host", host)]);
    }
    let_in("::1", Writers::Local, &[]);
    let_in("127.0.0.1", Writers::Local, &[("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:8080")]);
    let_in("127.0.0.1", Writers::Local, &[("host", "127.0.0.1:8080"), ("sec-fetch-site", "same-origin")]);
}

#[test]
fn other_machines_are_let_in_only_where_anyone_is() {
    let host = [("host", "prescale.example.com")];
    refused(Some("10.0.0.7"), Writers::Local, &[], "10.0.0.7 is another machine; call 127.0.0.1");
    refused(None, Writers::Local, &[], "nobody knows where");
    refused(Some("127.0.0.1"), Writers::Local, &[("x-forwarded-for", "10.0.0.7")], "a proxy forwards");
    refused(Some("127.0.0.1"), Writers::Local, &[("forwarded", "for=10.0.0.7")], "serve.writers");
    let_in("10.0.0.7", Writers::Anyone, &host);
    let_in("127.0.0.1", Writers::Anyone, &[("x-forwarded-for", "10.0.0.7")]);
}

#[test]
fn a_name_that_is_made_to_lead_here_is_refused() {
    for host in ["prescale.example.com", "localhost.example.com:8080", "127.0.0.1.example.com", "10.0.0.7:8080", ""] {
        refused(Some("127.0.0.1"), Writers::Local, &[("host", host)], "neither localhost nor");
    }
}

#[test]
fn pages_of_another_origin_are_refused_whoever_may_write() {
    for writers in [Writers::Local, Writers::Anyone] {
        let host = ("host", "127.0.0.1:8080");
        for site in ["cross-site", "same-site", "x"] {
            refused(Some("127.0.0.1"), writers, &[host, ("sec-fetch-site", site)], site);
        }
        for origin in ["http://example.com", "http://127.0.0.1:9999", "null"] {
            refused(Some("127.0.0.1"), writers, &[host, ("origin", origin)], origin);
        }
    }
}
