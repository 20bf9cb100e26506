//! All systems on the same services under the same seeds. Rule: a system with parameters is judged at the operating point
//! that serves it best over all seeds, chosen with full hindsight; all of its points are kept.

use std::collections::BTreeMap;

use prescale_domain::{ForecastScore, ScoreCard, SeedScores, SystemScore, Timestamp};

use crate::arena::{Bout, Pilot, Tally, spikes};
use crate::baselines::{Autoscaler, Contender, Course, Knobs, System};
use crate::frontier::{Point, pareto};
use crate::score::{mean, spreads};
use crate::sweep::{choose, targets};

/// What is flown, and how it is judged.
#[derive(Clone, Debug)]
pub struct Meeting<'a> {
    courses: &'a [Course],
    seeds: &'a [u64],
    rules: Rules,
    spikes: Vec<Vec<bool>>,
    /// A fleet that stays at the mean, by seed: what elastic speed-up is measured against.
    reference: Vec<Tally>,
}

/// How a meeting is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Percent of time that may be short, which decides what the best operating point is.
    pub budget_pct: f64,
    /// Whether the load is requests per second, so that a million of them has a price.
    pub load_is_requests: bool,
}

/// A system with one setting of its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Such as `target=0.55`; empty where there is nothing to set.
    pub label: String,
    /// One for each seed, all services together.
    pub flights: Vec<Tally>,
}

/// A system at all of its operating points.
#[derive(Clone, Debug, PartialEq)]
pub struct Showing {
    pub system: System,
    pub operations: Vec<Operation>,
    /// The best of those that know the future, where there are any.
    pub bracket: Option<Operation>,
}

impl<'a> Meeting<'a> {
    pub fn new(courses: &'a [Course], seeds: &'a [u64], rules: Rules) -> Self {
        let spikes = courses.iter().map(|course| spikes(&course.bout.demand)).collect();
        let mut meeting = Self { courses, seeds, rules, spikes, reference: Vec::new() };
        meeting.reference = meeting.flights(|bout, _| bout.fly(&Pilot::Fixed(bout.static_mean().min(bout.fleet.max))));
        meeting
    }

    pub fn seeds(&self) -> &[u64] {
        self.seeds
    }

    /// The bout of the service at `index` under a seed.
    pub fn bout(&self, index: usize, seed: u64) -> Option<Bout> {
        let mut bout = self.courses.get(index)?.bout.clone();
        bout.fleet.seed = seed.wrapping_add(index as u64);
        Some(bout)
    }

    /// One flight for each seed; `fly` gets each service's bout under the seed, and its index.
    pub fn flights(&self, fly: impl FnMut(&Bout, usize) -> Tally) -> Vec<Tally> {
        self.flights_under(self.seeds, fly)
    }

    /// The same under some of the seeds.
    pub fn flights_under(&self, seeds: &[u64], mut fly: impl FnMut(&Bout, usize) -> Tally) -> Vec<Tally> {
        let under = |seed: &u64| {
            let bouts = (0..self.courses.len()).filter_map(|index| Some((self.bout(index, *seed)?, index)));
            bouts.map(|(bout, index)| fly(&bout, index)).fold(Tally::default(), Tally::plus)
        };
        seeds.iter().map(under).collect()
    }

    /// Which steps of the service at `index` are spikes, for [`Bout::drive_through`].
    pub fn spikes(&self, index: usize) -> &[bool] {
        self.spikes.get(index).map_or(&[], Vec::as_slice)
    }

    /// Flies a baseline at all of its operating points; `None` for Prescale.
    pub fn show(&self, system: System) -> Option<Showing> {
        Some(self.show_by(system, &fit(system, self.courses)?))
    }

    /// The same with what was fitted before, on courses that differ from these in their fleets only.
    pub fn show_by(&self, system: System, contenders: &[Box<dyn Contender + '_>]) -> Showing {
        // The same setting for all services, as an operator would have it.
        let operation = |knobs: Knobs| {
            let flights = self.flights(|bout, index| {
                let contender = contenders.get(index).map(|contender| contender.enter(bout, knobs));
                contender.map_or_else(Tally::default, |mut entered| fly(entered.as_mut(), bout, self.spikes(index)))
            });
            Operation { label: label(system, knobs), flights }
        };
        let targets: Vec<f64> = if system.has_target() { targets().collect() } else { vec![1.0] };
        // What all services can be configured as.
        let variants = contenders.iter().map(|contender| contender.variants()).min_by_key(|variants| variants.len());
        let sweep = |variant: &'static str| targets.iter().map(move |target| Knobs { target: *target, variant });
        let operations =
            variants.unwrap_or_default().iter().flat_map(|variant| sweep(variant)).map(operation).collect();
        let bracket = contenders.first().and_then(|contender| contender.bracket()).and_then(|variant| {
            let mut known: Vec<Operation> = sweep(variant).map(operation).collect();
            let best = self.best(&known)?;
            Some(known.swap_remove(best))
        });
        Showing { system, operations, bracket }
    }

    /// The units in service by time of a baseline at the operating point of this label, for the service at `index` under the
    /// first seed; where nothing changes nothing is said. `None` where there is no such point.
    pub fn capacity(&self, system: System, wanted: &str, index: usize) -> Option<Vec<(Timestamp, u32)>> {
        self.capacity_by(system, system.build(self.courses.get(index)?)?.as_ref(), wanted, index)
    }

    /// The same with what was fitted before for this service.
    pub fn capacity_by(
        &self,
        system: System,
        contender: &dyn Contender,
        wanted: &str,
        index: usize,
    ) -> Option<Vec<(Timestamp, u32)>> {
        let targets: Vec<f64> = if system.has_target() { targets().collect() } else { vec![1.0] };
        let knobs =
            contender.variants().iter().flat_map(|variant| targets.iter().map(move |target| (*variant, *target)));
        let mut knobs = knobs.map(|(variant, target)| Knobs { target, variant });
        let knobs = knobs.find(|knobs| label(system, *knobs) == wanted)?;
        let mut bout = self.bout(index, *self.seeds.first()?)?;
        let known = bout.clone();
        let mut entered = contender.enter(&known, knobs);
        bout.fleet.initial = entered.initial().unwrap_or(bout.fleet.initial);
        let mut capacity: Vec<(Timestamp, u32)> = Vec::new();
        bout.drive(|tick| {
            let ready = tick.state.ready.unwrap_or(tick.state.desired);
            if capacity.last().is_none_or(|(_, last)| *last != ready) {
                capacity.push((tick.now, ready));
            }
            entered.decide(tick)
        });
        Some(capacity)
    }

    /// The operation that counts.
    pub fn best(&self, operations: &[Operation]) -> Option<usize> {
        let points = operations.iter().map(|operation| self.point(operation)).collect::<Option<Vec<_>>>()?;
        choose(&points, self.rules.budget_pct)
    }

    /// Where an operation lies between cost and violation, in the mean of its seeds.
    pub fn point(&self, operation: &Operation) -> Option<Point> {
        let score = mean(&self.scores(operation, None))?;
        Some([score.cost_usd, score.violations.time_pct])
    }

    /// One score for each seed; regret is to the oracle's flight under the same seed.
    pub fn scores(&self, operation: &Operation, oracle: Option<&Operation>) -> Vec<SystemScore> {
        let label = Some(operation.label.clone()).filter(|label| !label.is_empty());
        let oracles = oracle.map_or(&[][..], |oracle| oracle.flights.as_slice());
        let one = |(seed, tally): (usize, &Tally)| {
            let mut score = tally.score(label.clone())?;
            score.cost_per_million_good_usd = tally.cost_per_million_good_usd().filter(|_| self.rules.load_is_requests);
            score.elastic_speedup = self.reference.get(seed).and_then(|reference| tally.elastic_speedup(reference));
            if let Some(best) = oracles.get(seed).and_then(|oracle| oracle.score(None)) {
                let regret = 100.0 * (score.cost_usd / best.cost_usd - 1.0);
                score.regret_to_oracle = Some(regret).filter(|_| best.cost_usd > 0.0);
                score.violation_regret_pct = Some(score.violations.time_pct - best.violations.time_pct);
            }
            Some(score)
        };
        operation.flights.iter().enumerate().filter_map(one).collect()
    }

    /// The score card of all that was shown.
    pub fn card(&self, showings: &[Showing], forecast: BTreeMap<String, ForecastScore>) -> ScoreCard {
        let oracle = showings.iter().find(|showing| showing.system == System::Oracle);
        let oracle = oracle.and_then(|showing| showing.operations.first());
        let (mut systems, mut frontier, mut brackets) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut seeds = SeedScores { seeds: self.seeds.to_vec(), systems: BTreeMap::new() };
        for showing in showings {
            let name = showing.system.name().to_owned();
            let Some(best) = self.best(&showing.operations).and_then(|best| showing.operations.get(best)) else {
                continue;
            };
            let scores = self.scores(best, oracle);
            if let Some(score) = mean(&scores) {
                systems.insert(name.clone(), score);
                seeds.systems.insert(name.clone(), spreads(&scores));
            }
            let points: Vec<Point> = showing.operations.iter().filter_map(|operation| self.point(operation)).collect();
            frontier.insert(name.clone(), pareto(&points));
            if let Some(score) = showing.bracket.as_ref().and_then(|known| mean(&self.scores(known, oracle))) {
                brackets.insert(name, score);
            }
        }
        let demands = self.courses.iter().map(|course| &course.bout.demand);
        let longest = demands.map(|demand| demand.end().since(demand.start)).max().unwrap_or_default();
        ScoreCard {
            systems,
            forecast,
            frontier,
            brackets,
            seeds: Some(seeds),
            seed: self.seeds.first().copied().unwrap_or(0),
            simulated_hours: longest.seconds() / 3600.0,
        }
    }
}

/// A baseline fitted on each course; it can be shown by meetings with other fleets as well, since what it learns depends on
/// the load alone.
pub fn fit(system: System, courses: &[Course]) -> Option<Vec<Box<dyn Contender + '_>>> {
    courses.iter().map(|course| system.build(course)).collect()
}

/// Lets an autoscaler fly.
pub fn fly(autoscaler: &mut dyn Autoscaler, bout: &Bout, spikes: &[bool]) -> Tally {
    match autoscaler.initial() {
        // A fixed fleet is there from the start; it is not an action of anybody.
        Some(initial) => {
            let mut bout = bout.clone();
            bout.fleet.initial = initial;
            bout.drive_through(spikes, |tick| autoscaler.decide(tick))
        }
        None => bout.drive_through(spikes, |tick| autoscaler.decide(tick)),
    }
}

fn label(system: System, knobs: Knobs) -> String {
    let target = system.has_target().then(|| format!("target={:.2}", knobs.target));
    let variant = (!knobs.variant.is_empty()).then(|| knobs.variant.to_owned());
    target.into_iter().chain(variant).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines::tests::course;

    #[test]
    fn the_card_has_all_numbers_of_all_systems_over_all_seeds() {
        let mut course = course(&[0.0, 15.0, -10.0, 3.0]);
        course.bout.fleet.provisioning_latency_p90 = prescale_domain::Span::from_secs(90);
        // Below the highest load of the training there is a spike.
        course.bout.demand.load[150] += 30.0;
        let courses = [course.clone(), course];
        let seeds = [1, 2, 3];
        let meeting = Meeting::new(&courses, &seeds, Rules { budget_pct: 1.0, load_is_requests: true });
        let flown = [System::Hpa, System::StaticPeak, System::AwsPredictive, System::Oracle];
        let showings: Vec<Showing> = flown.into_iter().map(|system| meeting.show(system).unwrap()).collect();
        assert_eq!(meeting.show(System::Prescale), None);
        let card = meeting.card(&showings, BTreeMap::new());
        let oracle = &card.systems["oracle"];
        assert_eq!((oracle.regret_to_oracle, oracle.violations.time_pct), (Some(0.0), 0.0));
        for (name, score) in &card.systems {
            assert!(score.violations.time_pct > 0.0 || score.cost_usd >= oracle.cost_usd, "{name}: {score:?}");
            assert!(card.frontier[name].windows(2).all(|pair| pair[0][0] < pair[1][0] && pair[0][1] > pair[1][1]));
        }
        assert!(card.brackets["aws-predictive"].chosen.as_ref().unwrap().ends_with("clairvoyant"));
        let json = serde_json::to_value(&card).unwrap();
        let names = [
            "cost_usd",
            "cost_per_million_good_usd",
            "unit_hours",
            "theta_under",
            "theta_over",
            "tau_under",
            "tau_over",
            "instability",
            "reversals",
            "actions",
            "regret_to_oracle",
            "utilization_pct",
            "waste_pct",
            "elastic_speedup",
            "spike_availability_pct",
            "spike_short_time_pct",
            "violation_regret_pct",
            "reversals_per_hour",
        ];
        for name in names {
            assert!(json["systems"]["hpa"][name].is_number(), "{name}");
            assert!(json["seeds"]["systems"]["hpa"][name]["deviation"].is_number(), "{name}");
        }
        assert!(json["frontier"]["hpa"][0][1].is_number());
        assert_eq!(json["seeds"]["seeds"], serde_json::json!([1, 2, 3]));
        let read: ScoreCard = serde_json::from_value(json).unwrap();
        assert_eq!(read, card);
    }
}
