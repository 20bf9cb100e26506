//! Which frames are whole.

use super::*;
use crate::fake;

fn marks(view: &View) -> BTreeMap<ServiceName, Mark> {
    view.services.iter().map(|(name, service)| (name.clone(), Mark::of(service))).collect()
}

/// Whether the frame after `before` is full, where `change` makes the next view.
#[track_caller]
fn check(change: impl FnOnce(&mut View), expected: bool) {
    let before = fake::view(2000);
    let mut after = fake::view(2001);
    change(&mut after);
    assert_eq!(Frame::since(&after, Some(&marks(&before))).full, expected);
}

#[test]
fn a_frame_is_whole_when_the_past_has_changed() {
    check(|_| {}, false);
    check(|view| drop(view.services.remove(&"search".into())), true);
    check(
        |view| {
            let service = view.services.get_mut(&"checkout".into()).unwrap();
            let back = Arc::make_mut(service);
            back.load.push_front((Timestamp::from_millis(0), Some(1.0)));
        },
        true,
    );
}

#[test]
fn a_service_that_gets_its_first_history_is_sent_from_the_start() {
    let mut before = fake::view(2000);
    let service = before.services.get_mut(&"checkout".into()).unwrap();
    Arc::make_mut(service).load.clear();
    let frame = Frame::since(&fake::view(2001), Some(&marks(&before)));
    let checkout = frame.services.iter().find(|service| service.summary.name == "checkout").unwrap();
    assert_eq!(checkout.load.len(), 1440);
}
