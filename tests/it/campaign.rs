//! Two replicas, one group, and everything that can go wrong, in virtual time. Rule: the real decisions, the real lease, the
//! real SDK and its retries against the simulated account; only the sockets and the waiting are left out.
//!
//! Each seed is a scenario of its own: throttling, errors, pages that are no answers, hangs, lost answers, stale reads,
//! denied calls, lost capacity, storms of interruptions, a lease that can't be reached or whose answers are lost, replicas
//! that die between a call and its record, clocks that are wrong and jump, load that is not known. A seed that fails says how
//! to run it alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prescale_actuate::wire::{Wire, WireAnswer, WireRequest};
use prescale_actuate::{
    ActuateError, Actuator, AsgSettings, AwsAsg, Connections, Failure, Keeper, LeasePlace, LeaseRecord, LeaseSettings,
    Order, TenureWatch, carry_out, settle,
};
use prescale_decide::decide;
use prescale_domain::{Actuation, Decision, DecisionInputs, Mode, Outcome, Span, TargetState, Timestamp};
use prescale_simulation::aws::{Aws, AwsSettings, Fault, FaultKind, Shortage};
use tokio::time::Instant;

/// Scenarios without being asked for more: `PRESCALE_CAMPAIGN=10000` is the whole campaign.
const SCENARIOS: u64 = 20;
const TICK: Duration = Duration::from_secs(15);
/// Things go wrong for so long, and then all is well for so long: a circuit breaker that opened at the end closes after five
/// minutes.
const TROUBLE: Span = Span::from_minutes(4);
const CALM: Span = Span::from_minutes(7);
const UNIT_CAPACITY: f64 = 50.0;
const BLIND_AFTER: Span = Span::from_secs(90);
/// Clocks are wrong by no more than this.
const SKEW: Span = Span::from_secs(80);

/// Numbers from a seed (SplitMix64, Steele et al. 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    fn within(&mut self, low: i64, high: i64) -> i64 {
        low + i64::try_from(self.roll() % u64::try_from(high - low + 1).unwrap()).unwrap()
    }

    fn chance(&mut self, share: f64) -> bool {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64 <= share
    }

    fn moment(&mut self) -> Span {
        Span::from_millis(self.within(0, TROUBLE.millis()))
    }

    /// A time within the trouble, no longer than `most` seconds.
    fn window(&mut self, most: i64) -> (Span, Span) {
        let from = self.moment();
        let until = from + Span::from_secs(self.within(5, most));
        (from, if until < TROUBLE { until } else { TROUBLE })
    }
}

/// What is true in a scenario, whoever knows it.
struct World {
    began: Instant,
    start: Timestamp,
    aws: Mutex<Aws>,
    min: u32,
    max: u32,
    /// Load from so long after the start on.
    loads: Vec<(Span, f64)>,
    /// When nobody is told the load.
    blind: Vec<(Span, Span)>,
    /// How wrong each replica's wall clock is, from when on.
    skews: [Vec<(Span, Span)>; 2],
    shelf: Shelf,
    /// Of the replicas that live now.
    watches: Mutex<[Option<TenureWatch>; 2]>,
    /// What the group wants, as its own log says.
    desired: Mutex<u32>,
    /// The last decision of each replica, in a few words.
    said: Mutex<[String; 2]>,
    wrongs: Mutex<Vec<String>>,
}

/// Where the lease lies, and when it is out of order for whom.
#[derive(Default)]
struct Shelf {
    record: Mutex<Option<(LeaseRecord, u64)>>,
    outages: Vec<(usize, Span, Span, Outage)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Outage {
    Refuses,
    Hangs,
    /// Writes are made and not answered.
    Swallows,
}

impl World {
    fn of(seed: u64) -> Self {
        let dice = &mut Dice(seed);
        let start = AwsSettings::default().start + Span::from_minutes(60);
        let (min, max) = (u32::try_from(dice.within(1, 3)).unwrap(), u32::try_from(dice.within(8, 30)).unwrap());
        let initial = u32::try_from(dice.within(i64::from(min), i64::from(max))).unwrap();
        let latency = dice.within(5, 60);
        let settings = AwsSettings {
            seed,
            launch_latency: Span::from_secs(latency),
            // No long tail: what is launched in the trouble serves in the end.
            launch_latency_p90: Span::from_secs(latency * 5 / 4 + 1),
            ..AwsSettings::default()
        };
        let mut aws = Aws::new(settings).unwrap();
        aws.call(start, &create(min, max, initial, dice.chance(0.5)));
        for _ in 0..dice.within(1, 4) {
            aws.script(fault(dice, start));
        }
        if dice.chance(0.3) {
            let (from, until) = dice.window(300);
            let units = u32::try_from(dice.within(0, 6)).unwrap();
            let (from, until) = (start + from, start + until);
            aws.lack(Shortage { instance_type: None, zone: None, spot: None, from, until, units });
        }
        let loads = (0..dice.within(1, 5)).map(|_| (dice.moment(), dice.within(0, 2000) as f64)).collect::<Vec<_>>();
        let mut loads: Vec<(Span, f64)> =
            [(Span::ZERO, f64::from(initial) * UNIT_CAPACITY * 0.5)].into_iter().chain(loads).collect();
        loads.sort_by_key(|(from, _)| *from);
        let blind = (0..dice.within(0, 2)).map(|_| dice.window(240)).collect();
        let mut skew = || {
            let mut jumps = vec![(Span::ZERO, Span::from_millis(dice.within(-SKEW.millis(), SKEW.millis())))];
            if dice.chance(0.5) {
                jumps.push((dice.moment(), Span::from_millis(dice.within(-SKEW.millis(), SKEW.millis()))));
            }
            jumps
        };
        let skews = [skew(), skew()];
        let outages = (0..dice.within(0, 3)).map(|_| {
            let (from, until) = dice.window(120);
            let kinds = [Outage::Refuses, Outage::Hangs, Outage::Swallows];
            (
                usize::try_from(dice.within(0, 2)).unwrap(),
                from,
                until,
                kinds[usize::try_from(dice.within(0, 2)).unwrap()],
            )
        });
        let shelf = Shelf { record: Mutex::default(), outages: outages.collect() };
        Self {
            began: Instant::now(),
            start,
            aws: Mutex::new(aws),
            min,
            max,
            loads,
            blind,
            skews,
            shelf,
            watches: Mutex::default(),
            desired: Mutex::new(initial),
            said: Mutex::default(),
            wrongs: Mutex::default(),
        }
    }

    /// Time since the start.
    fn passed(&self) -> Span {
        Span::from_millis(i64::try_from(self.began.elapsed().as_millis()).unwrap())
    }

    fn now(&self) -> Timestamp {
        self.start + self.passed()
    }

    /// The wall clock of a replica: as wrong as everything else, and then set right. One that is wrong by more than a load
    /// may be old makes its replica hold for as long.
    fn clock(&self, replica: usize) -> Timestamp {
        let passed = self.passed();
        if passed >= TROUBLE {
            return self.now();
        }
        let skew =
            self.skews[replica].iter().rev().find(|(from, _)| *from <= passed).map_or(Span::ZERO, |(_, skew)| *skew);
        self.now() + skew
    }

    /// The last load that was told, and the end of its window.
    fn told(&self) -> Option<(f64, Timestamp)> {
        let minute = Span::from_secs(15).millis();
        let mut end = Span::from_millis(self.passed().millis() / minute * minute);
        while self.blind.iter().any(|(from, until)| *from <= end && end < *until) {
            end = Span::from_millis(end.millis() - minute);
        }
        (end > Span::ZERO).then(|| {
            let load = self.loads.iter().rev().find(|(from, _)| *from < end).map_or(0.0, |(_, load)| *load);
            (load, self.start + end)
        })
    }

    fn wrong(&self, text: String) {
        self.wrongs.lock().unwrap().push(format!("{} in: {text}", self.passed()));
    }

    /// A call arrives from a replica.
    fn call(&self, replica: usize, request: &WireRequest) -> WireAnswer {
        let mut aws = self.aws.lock().unwrap();
        let answer = aws.call(self.now(), request);
        let record = aws.log().last().unwrap();
        if record.operation.starts_with("Describe") {
            return answer;
        }
        let watches = self.watches.lock().unwrap();
        let acts = |replica: usize| watches[replica].as_ref().is_some_and(|watch| watch.left().is_ok());
        if !acts(replica) || acts(1 - replica) {
            self.wrong(format!(
                "{} by replica {replica}: it acts {}, the other {}",
                record.operation,
                acts(replica),
                acts(1 - replica)
            ));
        }
        let Some(units) = record.parameters.get("DesiredCapacity").and_then(|units| units.parse::<u32>().ok()) else {
            self.wrong(format!("{} was called, which nothing asks for", record.operation));
            return answer;
        };
        if !(self.min..=self.max).contains(&units) {
            self.wrong(format!("{units} units asked for, outside {} to {}", self.min, self.max));
        }
        let mut desired = self.desired.lock().unwrap();
        let age = self.told().map_or(TROUBLE, |(_, end)| self.now().since(end));
        // As old as the replica's clock makes the load seem younger, and one tick for the decision to arrive.
        let blind = age > BLIND_AFTER + SKEW + Span::from_secs(30);
        if units < *desired && blind {
            self.wrong(format!("scaled in from {desired} to {units} on a load of {age} ago"));
        }
        let took_effect =
            record.error.is_none() && matches!(record.fault, None | Some(FaultKind::LostAnswer | FaultKind::Delay(_)));
        if took_effect {
            *desired = units;
        }
        answer
    }
}

/// A replica's way to the lease.
struct Way {
    world: Arc<World>,
    replica: usize,
}

impl Way {
    async fn outage(&self) -> Result<bool, ActuateError> {
        let passed = self.world.passed();
        let struck = |(whom, from, until, _): &&(usize, Span, Span, Outage)| {
            (*whom == 2 || *whom == self.replica) && *from <= passed && passed < *until
        };
        match self.world.shelf.outages.iter().find(struck).map(|(.., kind)| *kind) {
            None => Ok(false),
            Some(Outage::Swallows) => Ok(true),
            Some(Outage::Hangs) => std::future::pending().await,
            Some(Outage::Refuses) => Err(self.error()),
        }
    }

    fn error(&self) -> ActuateError {
        let detail = "out of order".to_owned();
        ActuateError::Unreachable(Failure { operation: "reach the lease", target: "shelf".to_owned(), detail })
    }
}

impl LeasePlace for Way {
    type Version = u64;

    async fn read(&self) -> Result<Option<(LeaseRecord, u64)>, ActuateError> {
        self.outage().await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
        Ok(self.world.shelf.record.lock().unwrap().clone())
    }

    async fn write(&self, record: &LeaseRecord, read: Option<&u64>) -> Result<bool, ActuateError> {
        let swallows = self.outage().await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
        let fits = {
            let mut place = self.world.shelf.record.lock().unwrap();
            let fits = place.as_ref().map(|(_, version)| version) == read;
            if fits {
                *place = Some((record.clone(), read.copied().unwrap_or_default() + 1));
            }
            fits
        };
        if swallows { Err(self.error()) } else { Ok(fits) }
    }
}

/// What a replica has recorded: attempts, and the units that each asked for.
type Journal = Arc<Mutex<Vec<(Actuation, u32)>>>;

/// A life of a replica; its journal outlives it.
async fn live(world: Arc<World>, replica: usize, life: u32, journal: Journal) {
    let tied = Arc::clone(&world);
    let wire = Wire::new(move |request: WireRequest| {
        let world = Arc::clone(&tied);
        async move { world.call(replica, &request) }
    });
    let settings = AsgSettings {
        timeout: Span::from_secs(8),
        attempt_timeout: Span::from_secs(2),
        region: Some("eu-west-1".to_owned()),
        ..AsgSettings::new("web", world.min, world.max)
    };
    let target = AwsAsg::new(settings, &Connections::over(&wire));
    let place = Way { world: Arc::clone(&world), replica };
    let keeper = Keeper::new(&format!("replica {replica}, life {life}"), LeaseSettings::default(), place);
    let lease = keeper.watch();
    world.watches.lock().unwrap()[replica] = Some(lease.clone());
    let keeping = keeper.run(std::future::pending());
    let looping = decide_and_act(&world, replica, &target, &lease, &journal);
    tokio::join!(keeping, looping);
}

async fn decide_and_act(
    world: &World,
    replica: usize,
    target: &AwsAsg,
    lease: &TenureWatch,
    journal: &Mutex<Vec<(Actuation, u32)>>,
) {
    let mut inputs = inputs();
    let mut interrupted = journal.lock().unwrap().last().filter(|(last, _)| last.outcome == Outcome::Started).cloned();
    loop {
        let now = world.clock(replica);
        let found: Option<TargetState> = target.observe(now).await.ok();
        if let (Some((begun, desired)), Some(found)) = (&interrupted, &found) {
            let settled = settle(begun, *desired, found);
            journal.lock().unwrap().push((settled, *desired));
            interrupted = None;
        }
        let told = world.told();
        inputs.at = now;
        inputs.load =
            told.map(|(load, _)| load).filter(|_| told.is_some_and(|(_, end)| now.since(end) < Span::from_secs(60)));
        inputs.load_window_end = told.map(|(_, end)| end);
        inputs.target = found;
        let decision: Decision = decide(&inputs);
        inputs.memory = decision.memory.clone();
        let reasons: Vec<&str> = decision.reasons.iter().map(|reason| reason.code.as_str()).collect();
        let acts = lease.left().map_or_else(|why| why, |left| format!("acts for {left:?}"));
        world.said.lock().unwrap()[replica] = format!(
            "replica {replica} at {} (its clock) wants {} of {:?}: {}; {acts}",
            decision.at,
            decision.desired,
            found.map(|found| found.desired),
            reasons.join(" ")
        );
        if found.is_some_and(|found| found.desired != decision.desired) {
            let record = |batch: &[Actuation]| {
                journal.lock().unwrap().extend(batch.iter().map(|one| (one.clone(), decision.desired)));
                Ok::<(), String>(())
            };
            carry_out(&[(&decision, target)], now, lease, Order::Together, record).await.unwrap();
        }
        tokio::time::sleep(TICK).await;
    }
}

/// What a decision is made of, before anything is known.
fn inputs() -> DecisionInputs {
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../../schemas/samples/decisions.json")).unwrap();
    let mut inputs = samples.into_iter().next().unwrap().inputs;
    inputs.mode = Mode::Act;
    (inputs.forecast, inputs.forecast_missing) = (None, "no-history".to_owned());
    inputs.memory = prescale_domain::DecisionMemory::default();
    inputs.settings.unit_capacity = UNIT_CAPACITY;
    (inputs.settings.min_units, inputs.settings.max_units) = (0, 100);
    (inputs.settings.step_up_units, inputs.settings.step_down_units) = (100, 100);
    (inputs.settings.cooldown_down, inputs.settings.stabilization_down) = (Span::from_secs(60), Span::from_secs(60));
    (inputs.settings.stale_after, inputs.settings.blind_after) = (Span::from_secs(60), BLIND_AFTER);
    inputs
}

fn create(min: u32, max: u32, desired: u32, spot: bool) -> WireRequest {
    let launches = if spot {
        "MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateName=default\
         &MixedInstancesPolicy.LaunchTemplate.Overrides.member.1.InstanceType=m5.large\
         &MixedInstancesPolicy.LaunchTemplate.Overrides.member.2.InstanceType=m6i.large\
         &MixedInstancesPolicy.InstancesDistribution.OnDemandBaseCapacity=1\
         &MixedInstancesPolicy.InstancesDistribution.OnDemandPercentageAboveBaseCapacity=0"
    } else {
        "LaunchTemplate.LaunchTemplateName=default"
    };
    let zones = "AvailabilityZones.member.1=eu-west-1a&AvailabilityZones.member.2=eu-west-1b";
    let body = format!(
        "Action=CreateAutoScalingGroup&Version=2011-01-01&AutoScalingGroupName=web&MinSize={min}&MaxSize={max}\
         &DesiredCapacity={desired}&{zones}&{launches}"
    );
    WireRequest { method: "POST".to_owned(), path: "/".to_owned(), body: body.into_bytes(), ..WireRequest::default() }
}

fn fault(dice: &mut Dice, start: Timestamp) -> Fault {
    let kinds = [
        FaultKind::Throttle,
        FaultKind::Denied,
        FaultKind::Internal,
        FaultKind::Html,
        FaultKind::Hang,
        FaultKind::Drop,
        FaultKind::LostAnswer,
        FaultKind::Delay(Span::from_millis(dice.within(100, 7000))),
        FaultKind::Stale(Span::from_secs(dice.within(5, 90))),
        FaultKind::Error { status: 500, code: "ResourceContention".to_owned(), message: "busy".to_owned() },
    ];
    let operations = ["*", "DescribeAutoScalingGroups", "SetDesiredCapacity"];
    let (from, until) = dice.window(240);
    let kind = kinds[usize::try_from(dice.within(0, kinds.len() as i64 - 1)).unwrap()].clone();
    Fault {
        probability: Some(dice.within(1, 10) as f64 / 10.0),
        from: Some(start + from),
        until: Some(start + until),
        ..Fault::new(operations[usize::try_from(dice.within(0, 2)).unwrap()], kind)
    }
}

/// Plays one scenario; what went wrong.
async fn play(seed: u64) -> Vec<String> {
    let world = Arc::new(World::of(seed));
    let mut dice = Dice(seed ^ 0x5eed);
    let journals: [Journal; 2] = Default::default();
    let begin = |replica: usize, life: u32| {
        tokio::spawn(live(Arc::clone(&world), replica, life, Arc::clone(&journals[replica])))
    };
    let mut lives = [begin(0, 0), begin(1, 0)];
    let mut deaths: Vec<(Span, usize, Span)> = (0..dice.within(0, 3))
        .map(|_| (dice.moment(), usize::try_from(dice.within(0, 1)).unwrap(), Span::from_secs(dice.within(0, 90))))
        .collect();
    let storm = dice.chance(0.3).then(|| dice.moment());
    deaths.sort();
    let mut storms: Vec<Span> = storm.into_iter().collect();
    let mut rebirths: Vec<(Span, usize)> = Vec::new();
    let mut life = 0;
    loop {
        let passed = world.passed();
        if passed >= TROUBLE && rebirths.is_empty() {
            break;
        }
        while deaths.first().is_some_and(|(at, ..)| *at <= passed) {
            let (_, replica, pause) = deaths.remove(0);
            lives[replica].abort();
            world.watches.lock().unwrap()[replica] = None;
            rebirths.push((passed + pause, replica));
        }
        if storms.first().is_some_and(|at| *at <= passed) {
            storms.clear();
            interrupt_all(&world);
        }
        let (due, later): (Vec<_>, Vec<_>) = rebirths.into_iter().partition(|(at, _)| *at <= passed);
        rebirths = later;
        for (_, replica) in due {
            // Died twice: one life is enough.
            lives[replica].abort();
            life += 1;
            lives[replica] = begin(replica, life);
        }
        tokio::time::sleep(Duration::from_millis(730)).await;
    }
    world.aws.lock().unwrap().calm();
    tokio::time::sleep(CALM.to_std()).await;
    lives.iter().for_each(tokio::task::JoinHandle::abort);
    check_end(&world, &journals);
    std::mem::take(&mut *world.wrongs.lock().unwrap())
}

/// Takes every spot instance that there is.
fn interrupt_all(world: &World) {
    let mut aws = world.aws.lock().unwrap();
    let now = world.now();
    for id in aws.instance_ids() {
        aws.interrupt(&id, None, now);
    }
}

/// All has been well for a while: the group wants what the load needs, and has it.
fn check_end(world: &World, journals: &[Journal; 2]) {
    let (load, _) = world.told().unwrap();
    let desired = *world.desired.lock().unwrap();
    let least = ((load / UNIT_CAPACITY).ceil() as u32).max(world.min).min(world.max);
    // What the reactive rule aims at, and what it leaves alone as too little a change.
    let most = ((load / (UNIT_CAPACITY * 0.6)).ceil() * 1.12 + 1.0) as u32;
    let most = most.max(world.min).min(world.max);
    if !(least..=most).contains(&desired) {
        world.wrong(format!(
            "the group ends with {desired} units for a load of {load}: {least} to {most} are expected; {}",
            world.said.lock().unwrap().join("; ")
        ));
    }
    let serving = world.aws.lock().unwrap().in_service("web");
    if serving != desired {
        world.wrong(format!("{serving} instances of {desired} are in service in the end"));
    }
    for journal in journals {
        // What was begun has an end, but for what a death cut off for good.
        let journal = journal.lock().unwrap();
        let begun = journal.iter().filter(|(one, _)| one.outcome == Outcome::Started).count();
        let ended = journal.len() - begun;
        let open = journal.last().is_some_and(|(last, _)| last.outcome == Outcome::Started);
        let held = journal.iter().filter(|(one, _)| matches!(one.outcome, Outcome::Held { .. })).count();
        if begun > ended + usize::from(open) || ended > begun + held {
            world.wrong(format!("{begun} attempts were begun and {ended} ended"));
        }
    }
    if world.watches.lock().unwrap().iter().flatten().filter(|watch| watch.left().is_ok()).count() > 1 {
        world.wrong("both replicas have the lease in the end".to_owned());
    }
}

fn run(seed: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(play(seed))
}

#[test]
fn heavy_nothing_that_goes_wrong_makes_the_fleet_leave_its_bounds() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("PRESCALE_CAMPAIGN_SEED") {
        assert_eq!(run(seed), Vec::<String>::new());
        return;
    }
    let scenarios = number("PRESCALE_CAMPAIGN").unwrap_or(SCENARIOS);
    let next = AtomicU64::new(0);
    let failed: Mutex<Vec<String>> = Mutex::default();
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= scenarios {
                        return;
                    }
                    let wrongs = run(seed);
                    if !wrongs.is_empty() {
                        let how = format!("PRESCALE_CAMPAIGN_SEED={seed} cargo test --test it nothing_that_goes_wrong");
                        failed.lock().unwrap().push(format!("{how}\n    {}", wrongs.join("\n    ")));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!("{scenarios} scenarios in {:.1} s, {} failed", began.elapsed().as_secs_f64(), failed.len());
    assert!(failed.is_empty(), "{} of {scenarios} scenarios failed:\n{}", failed.len(), failed.join("\n"));
}
