//! The usual load of each profile, without noise. Rule: from the calendar alone, in UTC.

use prescale_domain::{Span, Timestamp, calendar_features};

use super::{Profile, ProfileSettings};

const DAY_MILLIS: i64 = 86_400_000;
/// Puts the highest point of the two harmonics of a day at 15:00.
const PEAK_HOUR: f64 = 15.57;
/// Business hours of the inference profile.
const OPENS_HOUR: f64 = 9.0;
const CLOSES_HOUR: f64 = 17.0;

/// Requests per second at `moment`, before anything unusual.
pub(super) fn usual(settings: &ProfileSettings, moment: Timestamp) -> f64 {
    let height = match settings.profile {
        Profile::Diurnal | Profile::Campaign | Profile::MaintenanceDip => day(moment),
        Profile::Weekly => {
            let level = between(settings, day(moment));
            return level * if is_weekend(moment) { settings.factor } else { 1.0 };
        }
        Profile::FlashCrowd | Profile::MicroBursts => 0.0,
        Profile::Ramp => {
            let since = moment.since(settings.start + settings.hold).millis() as f64;
            let rise = settings.rise.millis() as f64;
            if moment < settings.start + settings.hold {
                0.0
            } else if since < rise {
                since / rise
            } else {
                1.0
            }
        }
        Profile::Step => {
            let half = (settings.period.millis() / 2).max(1);
            (moment.since(settings.start).millis() / half % 2) as f64
        }
        Profile::GpuInference => match business(moment) {
            Some(height) => height,
            None => return 0.0,
        },
    };
    between(settings, height)
}

/// The level at a height from 0 = base to 1 = peak.
pub(super) fn between(settings: &ProfileSettings, height: f64) -> f64 {
    settings.base_per_second + (settings.peak_per_second - settings.base_per_second) * height
}

/// A day from 0 to 1: flat nights and broad days, as real logs have them (a second harmonic).
fn day(moment: Timestamp) -> f64 {
    /// The range of the sum of the two harmonics.
    const LOW: f64 = -0.885_109;
    const HIGH: f64 = 1.227_607;
    let angle = std::f64::consts::TAU * (hour(moment) - PEAK_HOUR) / 24.0;
    let sum = angle.cos() + 0.25 * (2.0 * angle + 0.6).cos();
    ((sum - LOW) / (HIGH - LOW)).clamp(0.0, 1.0)
}

/// A working day with its two busy times, from 0 to 1; `None` outside business hours.
fn business(moment: Timestamp) -> Option<f64> {
    /// The highest value of the curve.
    const HIGH: f64 = 0.801_107;
    let hour = hour(moment);
    if is_weekend(moment) || !(OPENS_HOUR..CLOSES_HOUR).contains(&hour) {
        return None;
    }
    let share = (hour - OPENS_HOUR) / (CLOSES_HOUR - OPENS_HOUR);
    let pi = std::f64::consts::PI;
    let curve = (pi * share).sin() * (0.85 - 0.15 * (4.0 * pi * share).cos());
    Some((curve / HIGH).clamp(0.0, 1.0))
}

fn hour(moment: Timestamp) -> f64 {
    moment.millis().rem_euclid(DAY_MILLIS) as f64 / 3_600_000.0
}

fn is_weekend(moment: Timestamp) -> bool {
    calendar_features(moment, Span::ZERO)[6] > 0.5
}
