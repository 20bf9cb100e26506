//! All flights of a back-test, over the cores of the machine. Rule: the result does not depend on how many there are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use indicatif::ProgressBar;
use prescale_domain::{Decision, ForecastScore, ScoreCard, Series, ServiceName, Span, Timestamp};
use prescale_simulation::baselines::{Contender, System, static_p95, static_peak};
use prescale_simulation::experiment::Seen;
use prescale_simulation::frontier::{Comparison, Point, Tolerance, compare, near, pareto};
use prescale_simulation::meeting::{Meeting, Operation, Rules, Showing, fit};
use prescale_simulation::prescale::{self, Entry, Setting, sweep};
use prescale_simulation::report::BacktestReport;
use prescale_simulation::score::render;
use prescale_simulation::stream::ForecastStream;
use rayon::prelude::*;
use serde::Serialize;

use super::courses::{Flown, courses};
use super::report;
use crate::cli::Failure;
use crate::config::Config;

/// What is flown.
pub(super) struct Plan<'a> {
    pub(super) config: &'a Config,
    pub(super) histories: &'a BTreeMap<ServiceName, Series>,
    /// The load of the first part of each window, where it is known by itself.
    pub(super) parts: &'a BTreeMap<ServiceName, Series>,
    pub(super) streams: &'a BTreeMap<ServiceName, ForecastStream>,
    pub(super) scored: (Timestamp, Timestamp),
    /// Empty = what is configured.
    pub(super) lead_times: Vec<Span>,
    pub(super) baselines: Vec<System>,
    pub(super) seeds: Vec<u64>,
    pub(super) sweep: bool,
}

/// What came of it: the card of the first lead time at the top, all of them below.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) card: ScoreCard,
    /// By lead time, where several were asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) lead_times: BTreeMap<String, ScoreCard>,
    /// By lead time and baseline: how Prescale's frontier lies to it, where it was swept.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) beyond: BTreeMap<String, BTreeMap<String, Beyond>>,
    /// Seconds by part.
    pub(super) timings: BTreeMap<String, f64>,
    pub(super) notes: Vec<String>,
    /// Of the first lead time and seed.
    #[serde(skip)]
    pub(super) decisions: Decided,
}

/// Whether Prescale's frontier lies on or beyond that of a baseline.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Beyond {
    on_or_beyond: bool,
    points: usize,
    beaten: usize,
    worst_excess_pct: Option<f64>,
}

/// One lead time at work.
pub(super) struct Leg<'a> {
    name: String,
    pub(super) meeting: Meeting<'a>,
    entries: Vec<Entry<'a>>,
    pub(super) flown: &'a Flown,
}

/// The baselines as they were fitted, by service. What they learn depends on the load alone: one fit serves all lead times.
pub(super) type Fitted<'a> = BTreeMap<System, Vec<Box<dyn Contender + 'a>>>;

/// What one job flies.
#[derive(Clone, Copy)]
enum Job {
    Baseline(System),
    Configured,
    /// A setting under some of the seeds.
    Swept(Setting, Heat),
}

/// The seeds of a sweep. Under the first few all settings fly; under the others those that are near the frontier then. What is
/// left out can only make the frontier worse.
#[derive(Clone, Copy, PartialEq)]
enum Heat {
    First,
    Rest,
}

/// Seeds of the first heat.
const FIRST_SEEDS: usize = 2;
/// How near, in percent of cost.
const NEAR_PCT: f64 = 2.0;

/// What was decided for each service in the first flight.
pub(super) type Decided = BTreeMap<ServiceName, Vec<Decision>>;

enum Done {
    Baseline(Option<Showing>),
    Configured(Operation, Decided),
    Swept(Operation),
}

/// Flies all; the page is for people.
pub(super) fn fly(plan: &Plan, bar: &ProgressBar) -> Result<(Report, BacktestReport), Failure> {
    let leads: Vec<Option<Span>> =
        if plan.lead_times.is_empty() { vec![None] } else { plan.lead_times.iter().copied().map(Some).collect() };
    let all: Vec<(Option<Span>, Flown)> = leads
        .iter()
        .map(|lead| (*lead, courses(plan.config, [plan.histories, plan.parts], plan.scored, *lead)))
        .collect();
    let budgets = plan.config.services.iter().map(|service| service.policy_settings(&plan.config.policy).planning);
    let budget_pct = budgets.map(|planning| 100.0 * planning.violation_budget).fold(0.0, f64::max);
    let load_is_requests = plan.config.services.iter().all(|service| service.signal == "requests_per_second");
    let legs: Vec<Leg> =
        all.iter().map(|(lead, flown)| leg(plan, *lead, flown, Rules { budget_pct, load_is_requests })).collect();
    let mut jobs: Vec<(usize, Job)> = Vec::new();
    let mut others: Vec<(usize, Job)> = Vec::new();
    for index in 0..legs.len() {
        jobs.push((index, Job::Configured));
        jobs.extend(
            sweep().into_iter().filter(|_| plan.sweep).map(|setting| (index, Job::Swept(setting, Heat::First))),
        );
        others.extend(plan.baselines.iter().map(|system| (index, Job::Baseline(*system))));
    }
    bar.set_message("flying");
    // What flies in the second heat is not known yet: a third of the settings, as a guess.
    let guess = usize::from(plan.sweep && plan.seeds.len() > FIRST_SEEDS) * jobs.len() / 3;
    let (count, done) = (AtomicUsize::new(jobs.len() + others.len() + guess), AtomicUsize::new(0));
    let run = |jobs: &[(usize, Job)], fitted: &Fitted| -> Vec<(Done, f64)> {
        let one = |(leg, job): &(usize, Job)| {
            let result = timed(|| legs[*leg].fly(*job, fitted));
            let share = (done.fetch_add(1, Ordering::Relaxed) + 1) * 1000 / count.load(Ordering::Relaxed).max(1);
            bar.set_position(share as u64);
            result
        };
        jobs.par_iter().map(one).collect()
    };
    // Prescale flies while the others learn.
    let loads = all.first().map_or(&[][..], |(_, flown)| flown.courses.as_slice());
    let learn = || plan.baselines.par_iter().map(|system| timed(|| fit(*system, loads))).collect::<Vec<_>>();
    let (mut results, learnt) = rayon::join(|| run(&jobs, &Fitted::new()), learn);
    let (mut fitted, mut fitting) = (Fitted::new(), Vec::new());
    for (system, (contenders, seconds)) in plan.baselines.iter().zip(learnt) {
        fitted.extend(contenders.map(|contenders| (*system, contenders)));
        fitting.push((system.name(), seconds));
    }
    others.extend(second_heat(&legs, &jobs, &results));
    count.store(jobs.len() + others.len(), Ordering::Relaxed);
    results.extend(run(&others, &fitted));
    jobs.extend(others);
    let mut report = gather(plan, &legs, &jobs, results)?;
    for (part, seconds) in fitting {
        *report.timings.entry(part.to_owned()).or_default() += seconds;
    }
    let Some(first) = legs.first() else {
        return Err(Failure::Invalid("no lead time is given".to_owned()));
    };
    let mut page = report::whole(plan, &report, first, &fitted)?;
    page.budget_pct = Some(budget_pct);
    Ok((report, page))
}

/// The settings that go on to the other seeds: by leg, those near the frontier of all that flew.
fn second_heat(legs: &[Leg], jobs: &[(usize, Job)], results: &[(Done, f64)]) -> Vec<(usize, Job)> {
    let of = |index: usize, leg: &Leg| -> Vec<(usize, Job)> {
        let own = jobs.iter().zip(results).filter(|((of, _), _)| *of == index);
        let flown = own.filter_map(|((_, job), (done, _))| match (job, done) {
            (Job::Swept(setting, _), Done::Swept(operation)) => Some((*setting, leg.meeting.point(operation)?)),
            _ => None,
        });
        let (settings, points): (Vec<Setting>, Vec<Point>) = flown.unzip();
        let kept = settings.into_iter().zip(near(&points, NEAR_PCT)).filter(|(_, near)| *near);
        kept.map(|(setting, _)| (index, Job::Swept(setting, Heat::Rest))).collect()
    };
    let more = legs.iter().enumerate().filter(|(_, leg)| leg.meeting.seeds().len() > FIRST_SEEDS);
    more.flat_map(|(index, leg)| of(index, leg)).collect()
}

/// What came of it, and the seconds that it took.
fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let begun = Instant::now();
    let made = run();
    (made, begun.elapsed().as_secs_f64())
}

fn leg<'a>(plan: &'a Plan, lead: Option<Span>, flown: &'a Flown, rules: Rules) -> Leg<'a> {
    let seen = flown.seen.iter().zip(&flown.parts).map(|(windows, parts)| Seen { windows, parts: parts.as_deref() });
    let known = flown.names.iter().zip(&flown.settings).zip(seen).zip(&flown.courses);
    let entries = known.filter_map(|(((name, settings), seen), course)| {
        let peak = static_peak(course.training.load.iter().copied(), course.bout.unit_capacity);
        let p95 = static_p95(&course.training.load, course.bout.unit_capacity);
        Some(Entry { stream: plan.streams.get(name)?, settings: settings.clone(), seen, peak, p95 })
    });
    Leg {
        name: lead.map_or("configured".to_owned(), |lead| lead.to_string()),
        meeting: Meeting::new(&flown.courses, &plan.seeds, rules),
        entries: entries.collect(),
        flown,
    }
}

impl Leg<'_> {
    fn fly(&self, job: Job, fitted: &Fitted) -> Done {
        match job {
            Job::Baseline(system) => {
                Done::Baseline(fitted.get(&system).map(|contenders| self.meeting.show_by(system, contenders)))
            }
            Job::Configured => {
                let (operation, decided) = prescale::recorded(&self.meeting, &self.entries);
                Done::Configured(operation, self.flown.names.iter().cloned().zip(decided).collect())
            }
            Job::Swept(setting, heat) => {
                let seeds = self.meeting.seeds();
                let (first, rest) = seeds.split_at(seeds.len().min(FIRST_SEEDS));
                let seeds = if heat == Heat::First { first } else { rest };
                Done::Swept(prescale::set(&self.meeting, &self.entries, setting, seeds))
            }
        }
    }

    fn forecast_scores(&self, decided: &Decided) -> BTreeMap<String, ForecastScore> {
        let of = |(index, name): (usize, &ServiceName)| {
            let course = &self.flown.courses[index];
            let score = prescale::forecast_score(decided.get(name)?, &course.bout.demand, &course.training);
            Some((name.to_string(), score))
        };
        self.flown.names.iter().enumerate().filter_map(of).collect()
    }
}

fn gather(plan: &Plan, legs: &[Leg], jobs: &[(usize, Job)], results: Vec<(Done, f64)>) -> Result<Report, Failure> {
    let mut showings: Vec<Vec<Showing>> = legs.iter().map(|_| Vec::new()).collect();
    let mut swept: Vec<Vec<Operation>> = legs.iter().map(|_| Vec::new()).collect();
    let mut forecasts: Vec<BTreeMap<String, ForecastScore>> = legs.iter().map(|_| BTreeMap::new()).collect();
    let mut timings: BTreeMap<String, f64> = BTreeMap::new();
    let mut first = Decided::new();
    for ((leg, job), (result, seconds)) in jobs.iter().zip(results) {
        let part = match job {
            Job::Baseline(system) => system.name(),
            Job::Configured | Job::Swept(..) => System::Prescale.name(),
        };
        *timings.entry(part.to_owned()).or_default() += seconds;
        match result {
            Done::Baseline(showing) => showings[*leg].extend(showing),
            Done::Configured(operation, decided) => {
                swept[*leg].push(operation.clone());
                showings[*leg].push(prescale::showing(operation));
                forecasts[*leg] = legs[*leg].forecast_scores(&decided);
                if *leg == 0 {
                    first = decided;
                }
            }
            Done::Swept(operation) => match swept[*leg].iter_mut().find(|flown| flown.label == operation.label) {
                Some(flown) => flown.flights.extend(operation.flights),
                None => swept[*leg].push(operation),
            },
        }
    }
    let mut cards = Vec::new();
    let mut beyond = BTreeMap::new();
    for (index, leg) in legs.iter().enumerate() {
        let mut card = leg.meeting.card(&showings[index], std::mem::take(&mut forecasts[index]));
        // Those that ended with the first heat are no points of the frontier.
        let whole = swept[index].iter().filter(|operation| operation.flights.len() == plan.seeds.len());
        let points: Vec<_> = whole.filter_map(|operation| leg.meeting.point(operation)).collect();
        let name = System::Prescale.name();
        card.frontier.insert(name.to_owned(), pareto(&points));
        if plan.sweep {
            let rivals = card.frontier.iter().filter(|(rival, _)| *rival != name);
            let compared = rivals.filter_map(|(rival, theirs)| {
                let Comparison { points: count, beaten, worst_excess_pct, .. } =
                    compare(&points, theirs, Tolerance::default())?;
                let on_or_beyond = beaten == count;
                Some((rival.clone(), Beyond { on_or_beyond, points: count, beaten, worst_excess_pct }))
            });
            beyond.insert(leg.name.clone(), compared.collect::<BTreeMap<_, _>>());
        }
        cards.push((leg.name.clone(), card));
    }
    let mut notes: Vec<String> = legs.iter().flat_map(|leg| leg.flown.notes.clone()).collect();
    notes.dedup();
    let Some((_, card)) = cards.first().cloned() else {
        return Err(Failure::Invalid("none of the configuration's services is in the history".to_owned()));
    };
    let lead_times = if cards.len() > 1 { cards.into_iter().collect() } else { BTreeMap::new() };
    Ok(Report { card, lead_times, beyond, timings, notes, decisions: first })
}

impl Report {
    /// The report for a terminal.
    pub(super) fn table(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        if self.lead_times.is_empty() {
            out.push_str(&render(&self.card, &[]));
        }
        for (lead, card) in &self.lead_times {
            writeln!(out, "provisioning latency {lead}\n{}", render(card, &[]))?;
        }
        for (lead, rivals) in &self.beyond {
            for (rival, beyond) in rivals {
                let Beyond { on_or_beyond, points, beaten, worst_excess_pct } = beyond;
                let said = if *on_or_beyond { "on or beyond" } else { "not beyond" };
                let worst = worst_excess_pct.map_or("–".to_owned(), |worst| format!("{worst:+.1} %"));
                writeln!(
                    out,
                    "frontier at {lead}: {said} {rival} ({beaten} of {points} points, cost at worst {worst})"
                )?;
            }
        }
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        Ok(out)
    }
}
