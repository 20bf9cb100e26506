//! The loop with what was measured beside the loads: it is learnt from and asked, silence is a gap, restarts change nothing.

use rand::RngExt as _;

use super::*;
use crate::past::{Covariate, Covariates, Known};

/// How many windows later `b` does what `a` did.
const DELAY: usize = 5;

/// `a` calls `b`: its load jumps to another level every now and then, and that of `b` follows. The third is the queue of
/// `a`, which says nothing.
fn caller_and_called(count: usize) -> [Vec<Option<f64>>; 3] {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut level = 100.0;
    let mut a = Vec::new();
    for _ in 0..count {
        if random.random_bool(1.0 / 10.0) {
            level = random.random_range(50.0..500.0);
        }
        a.push(level * random.random_range(0.97..1.03));
    }
    let b = (0..count).map(|i| Some(0.5 * a[i.saturating_sub(DELAY)] * random.random_range(0.97..1.03)));
    let b = b.collect();
    let queue = (0..count).map(|i| (i % 7 != 3).then(|| random.random_range(0.0..9.0)));
    [a.iter().copied().map(Some).collect(), b, queue.collect()]
}

/// The loop of a controller that knows covariates; each training is run at its effective time.
#[derive(Clone)]
struct Measuring {
    online: Online,
    histories: BTreeMap<ServiceName, Series>,
    queue: Series,
    job: Option<TrainingJob>,
    /// Whether covariates are passed on.
    told: bool,
}

impl Measuring {
    fn new(settings: &OnlineSettings, told: bool) -> Self {
        let World { online, histories, .. } = World::new(settings.clone());
        let queue = histories[&"a".into()].clone();
        Self { online, histories, queue, job: None, told }
    }

    fn covariates(&self) -> Covariates<'_> {
        if !self.told {
            return Covariates::new();
        }
        let (a, b) = (ServiceName::new("a"), ServiceName::new("b"));
        let queue = Covariate { name: "queue_length_mean", series: &self.queue };
        let caller = Covariate { name: "service:a", series: &self.histories[&a] };
        BTreeMap::from([(a, vec![queue]), (b, vec![caller])])
    }

    fn step(&mut self, index: usize, [a, b, queue]: &[Vec<Option<f64>>; 3]) -> Vec<OnlineEvent> {
        let moment = self.queue.end();
        let now = moment + STEP;
        let mut happened = Vec::new();
        if let Some(job) = self.job.take_if(|job| job.effective <= now) {
            happened.extend(self.online.finish(now, job.run()));
        }
        for (name, values) in names().iter().zip([a, b]) {
            self.histories.get_mut(name).unwrap().values.push(values[index]);
            happened.extend(self.online.observe(name, moment, values[index]));
        }
        self.queue.values.push(queue[index]);
        let mut online = self.online.clone();
        let mut job = self.job.take();
        let covariates = self.covariates();
        if job.is_none() {
            job = online.due(now, Known { histories: &self.histories, covariates: &covariates }, &[]);
        }
        for name in names() {
            let past = Past::all(&self.histories[&name]).with_those_of(&name, &covariates);
            drop(online.forecast(&name, past, &[], now));
        }
        (self.online, self.job) = (online, job);
        happened
    }

    fn restart(&mut self, settings: &OnlineSettings) {
        let bytes = self.online.save();
        self.online = Online::restore(&bytes, settings.clone(), names()).unwrap();
        let covariates = self.covariates();
        self.job = self.online.resume(Known { histories: &self.histories, covariates: &covariates }, &[]);
    }
}

#[test]
fn the_load_of_a_caller_is_a_channel_of_the_model_that_serves_where_the_loop_is_told_of_it() {
    let loads = caller_and_called(200);
    for told in [true, false] {
        let mut world = Measuring::new(&settings(), told);
        for index in 0..200 {
            world.step(index, &loads);
        }
        assert_eq!(String::from_utf8_lossy(&world.online.save()).contains("service:1"), told);
    }
}

#[test]
fn with_covariates_everything_goes_on_after_a_restart_byte_for_byte_also_when_one_falls_silent() {
    let mut loads = caller_and_called(200);
    loads[2][120..].fill(None);
    let mut undisturbed = Measuring::new(&settings(), true);
    let mut disturbed = undisturbed.clone();
    let (mut restarts_while_training, mut happened) = (0, Vec::new());
    for index in 0..200 {
        if index % 17 == 5 || (index > 70 && index < 80) {
            restarts_while_training += usize::from(disturbed.online.pending().is_some());
            disturbed.restart(&settings());
        }
        let told = undisturbed.step(index, &loads);
        assert_eq!(told, disturbed.step(index, &loads), "{index}");
        assert_eq!(undisturbed.online.save(), disturbed.online.save(), "{index}");
        happened.extend(told.into_iter().map(|event| event.kind));
    }
    assert!(restarts_while_training > 0);
    assert!(happened.contains(&"promoted".to_owned()), "{happened:?}");
    assert!(!happened.contains(&"training-failed".to_owned()), "{happened:?}");
    assert!(String::from_utf8_lossy(&undisturbed.online.save()).contains("queue_length_mean"));
}
