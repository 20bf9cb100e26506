//! What is out of the usual: crowds, bursts, campaigns, maintenance. Rule: drawn from the seed once, at the start, in the
//! order of time.

use prescale_domain::{CalendarEvent, Span, Timestamp};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Profile, ProfileSettings};
use crate::seeded::{Purpose, rng};

const DAY_MILLIS: i64 = 86_400_000;

/// A time at which the load is another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lift {
    pub(super) start: Timestamp,
    /// End of the height; the fall follows.
    pub(super) end: Timestamp,
    /// 1 = as much as the settings say.
    pub(super) height: f64,
    pub(super) announced: Option<Announcement>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Announcement {
    known_at: Timestamp,
    expected_uplift: f64,
}

impl Lift {
    /// How much of its height there is at `moment`, from 0 to 1.
    pub(super) fn share(&self, settings: &ProfileSettings, moment: Timestamp) -> f64 {
        let millis = |span: Span| span.millis() as f64;
        if moment < self.start {
            0.0
        } else if moment < self.end {
            let risen = millis(moment.since(self.start));
            if risen < millis(settings.rise) { risen / millis(settings.rise) } else { 1.0 }
        } else if settings.fall <= Span::ZERO {
            0.0
        } else {
            (-millis(moment.since(self.end)) / millis(settings.fall)).exp()
        }
    }
}

/// Everything unusual from the start to the end, in order.
pub(super) fn draw(settings: &ProfileSettings) -> Vec<Lift> {
    let mut rng = rng(settings.seed, Purpose::ProfileEvents, 0, settings.start);
    match settings.profile {
        Profile::FlashCrowd => {
            periods(settings).map(|from| surprise(settings, &mut rng, from, 0.2, 0.8, 1.0)).collect()
        }
        Profile::MicroBursts => periods(settings)
            .map(|from| {
                let height = rng.random_range(0.5..=1.0);
                surprise(settings, &mut rng, from, 0.0, 0.9, height)
            })
            .collect(),
        Profile::Campaign => periods(settings).map(|from| campaign(settings, &mut rng, from)).collect(),
        Profile::MaintenanceDip => maintenance(settings),
        _ => Vec::new(),
    }
}

/// The announced ones as events of the calendar.
pub(super) fn events(settings: &ProfileSettings, lifts: &[Lift]) -> Vec<CalendarEvent> {
    let kind = if settings.profile == Profile::MaintenanceDip { "maintenance" } else { "campaign" };
    let announced = lifts.iter().filter_map(|lift| Some((lift, lift.announced?)));
    announced
        .enumerate()
        .map(|(index, (lift, announcement))| CalendarEvent {
            id: format!("{}-{kind}-{}", settings.service, index + 1),
            kind: kind.to_owned(),
            services: vec![settings.service.clone()],
            start: lift.start,
            end: lift.end,
            expected_uplift: Some(announcement.expected_uplift),
            known_at: announcement.known_at,
        })
        .collect()
}

fn periods(settings: &ProfileSettings) -> impl Iterator<Item = Timestamp> + use<> {
    let (start, end, period) = (settings.start, settings.end(), settings.period);
    std::iter::successors(Some(start), move |from| Some(*from + period)).take_while(move |from| *from < end)
}

/// At a moment between two shares of the period that starts at `from`.
fn surprise(
    settings: &ProfileSettings,
    rng: &mut ChaCha8Rng,
    from: Timestamp,
    earliest: f64,
    latest: f64,
    height: f64,
) -> Lift {
    let share = rng.random_range(earliest..latest);
    let start = from + Span::from_millis((settings.period.millis() as f64 * share) as i64);
    Lift { start, end: start + settings.rise + settings.hold, height, announced: None }
}

/// On the hour or the half, and never exactly as large as was expected.
fn campaign(settings: &ProfileSettings, rng: &mut ChaCha8Rng, from: Timestamp) -> Lift {
    let height = rng.random_range(0.88..1.12);
    let lift = surprise(settings, rng, from, 0.3, 0.8, height);
    let start = lift.start.floor_to(Span::from_minutes(30));
    let known_at = start - Span::from_minutes(rng.random_range(240..=1200));
    let announced = Some(Announcement { known_at, expected_uplift: settings.factor });
    Lift { start, end: start + settings.rise + settings.hold, announced, ..lift }
}

fn maintenance(settings: &ProfileSettings) -> Vec<Lift> {
    // 1970-01-04 was a Sunday.
    let first = 3 * DAY_MILLIS + 2 * 3_600_000;
    let week = 7 * DAY_MILLIS;
    let next = settings.start.millis().saturating_sub(first).div_euclid(week).saturating_add(1);
    let sundays = (next.saturating_sub(1)..)
        .map(|number| Timestamp::from_millis(number.saturating_mul(week).saturating_add(first)));
    let inside = sundays.skip_while(|start| *start < settings.start).take_while(|start| *start < settings.end());
    inside
        .map(|start| Lift {
            start,
            end: start + settings.rise + settings.hold,
            height: 1.0,
            announced: Some(Announcement {
                known_at: start - Span::from_millis(3 * DAY_MILLIS),
                expected_uplift: settings.factor,
            }),
        })
        .collect()
}
