//! What a baseline may know of the load. Rule: nothing younger than the age of its metric, whoever asks for what.

use prescale_domain::{Span, Timestamp};

use super::Demand;

/// The load of the training part and of the scored part up to `age` ago.
#[derive(Clone, Copy, Debug)]
pub struct Gauge<'a> {
    pub training: &'a Demand,
    pub live: &'a Demand,
    /// From something happening to its being seen: scrape interval, aggregation, delay.
    pub age: Span,
}

impl Gauge<'_> {
    /// The newest load that is known; before the scored part that of the training part, else the first there is.
    pub fn read(&self, now: Timestamp) -> f64 {
        self.known(now - self.age)
    }

    /// The load at `moment`; `None` where it is not known yet, or from before the training part.
    pub fn at(&self, now: Timestamp, moment: Timestamp) -> Option<f64> {
        let known = moment <= now - self.age && moment >= self.begins();
        known.then(|| self.known(moment))
    }

    /// The mean load of [from, until); `None` where a part of it is not known.
    pub fn mean(&self, now: Timestamp, from: Timestamp, until: Timestamp) -> Option<f64> {
        let known = until <= now - self.age && from >= self.begins() && from < until;
        known.then(|| {
            let mut moment = from;
            let mut sum = 0.0;
            while moment < until {
                let demand = if moment < self.live.start { self.training } else { self.live };
                let step = demand.step.millis().max(1);
                let index = moment.since(demand.start).millis() / step;
                let next = (demand.start + Span::from_millis((index + 1) * step)).min(until);
                sum += demand.of_step(index) * next.since(moment).seconds();
                moment = next;
            }
            sum / until.since(from).seconds()
        })
    }

    fn begins(&self) -> Timestamp {
        if self.training.load.is_empty() { self.live.start } else { self.training.start }
    }

    fn known(&self, moment: Timestamp) -> f64 {
        let training = moment < self.live.start && !self.training.load.is_empty();
        if training { self.training.at(moment) } else { self.live.at(moment) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn nothing_younger_than_its_age_is_told() {
        let minute = Span::from_minutes(1);
        let training = Demand { start: at(0), step: minute, load: vec![1.0, 2.0] };
        let live = Demand { start: at(120), step: minute, load: vec![4.0, 8.0] };
        let gauge = Gauge { training: &training, live: &live, age: Span::from_secs(30) };
        assert_eq!([120, 149, 150, 209, 210].map(|now| gauge.read(at(now))), [2.0, 2.0, 4.0, 4.0, 8.0]);
        assert_eq!(gauge.at(at(200), at(170)), Some(4.0));
        assert_eq!(gauge.at(at(200), at(171)), None);
        assert_eq!(gauge.at(at(200), at(-1)), None);
        assert_eq!(gauge.mean(at(210), at(60), at(180)), Some(3.0));
        assert_eq!(gauge.mean(at(210), at(105), at(150)), Some((2.0 * 15.0 + 4.0 * 30.0) / 45.0));
        assert_eq!(gauge.mean(at(209), at(60), at(180)), None);
    }
}
