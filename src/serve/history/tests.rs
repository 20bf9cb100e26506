//! Pages of decisions at their edges.

use prescale_domain::DecisionId;

use super::*;
use crate::fake::{self, MemoryArchive};

/// Decisions `name` at minutes, as `b3 a3 a1`, in an archive alone; pages of `limit`, separated by ` | `.
#[track_caller]
fn check(decisions: &str, limit: usize, expected: &str) {
    let view = View { services: Default::default(), ..fake::view(0) };
    let model = fake::view(0).services[&"checkout".into()].decisions[0].clone();
    let made = decisions.split_whitespace().map(|text| {
        let at = Timestamp::from_millis(text[1..].parse::<i64>().unwrap() * 60_000);
        Decision { id: DecisionId(format!("{}@{at}#0", &text[..1])), at, ..Decision::clone(&model) }
    });
    let archive = MemoryArchive { decisions: made.collect() };
    let (mut pages, mut before) = (Vec::new(), None);
    loop {
        let (found, next) = page(&view, &archive, &Page { service: None, before, limit }).unwrap();
        let name = |decision: &Decision| format!("{}{}", &decision.id.0[..1], decision.at.millis() / 60_000);
        pages.push(found.iter().map(name).collect::<Vec<_>>().join(" "));
        let Some(next) = next else { break };
        before = Some(Before::parse(&next).unwrap());
    }
    assert_eq!(pages.join(" | "), expected);
}

#[test]
fn a_page_may_end_inside_a_moment() {
    check("a1 b1 c1 a2 b2 c2", 2, "c2 b2 | a2 c1 | b1 a1");
    check("a1 b1 c1", 3, "c1 b1 a1");
    check("", 3, "");
}

#[test]
fn a_moment_with_more_decisions_than_the_archive_is_asked_for_is_read_whole() {
    let many: Vec<String> = ('a'..='z').chain('A'..='Z').map(|name| format!("{name}5")).collect();
    let mut all = many.clone();
    all.sort();
    all.reverse();
    let expected = all
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .chunks(20)
        .map(|page| page.join(" "))
        .collect::<Vec<_>>()
        .join(" | ");
    check(&many.join(" "), 20, &expected);
}

#[test]
fn before_is_a_time_or_an_id() {
    let at = Timestamp::from_millis(0);
    assert_eq!(Before::parse("1970-01-01T00:00:00Z"), Ok(Before::Moment(at)));
    let id = "a@b@1970-01-01T00:00:00Z#ff".to_owned();
    assert_eq!(Before::parse(&id), Ok(Before::Decision { at, id: id.clone() }));
    assert!(Before::parse("a#1970").is_err());
}
