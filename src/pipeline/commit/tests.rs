//! The protocol against a model of the store and of Kafka, through every order of crashes and faults up to a bound.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::*;

/// What each record of the input gives; the second is filtered.
const INPUT: [Option<char>; 5] = [Some('a'), None, Some('b'), Some('c'), Some('d')];
/// Crashes and failed calls in one history.
const TROUBLES: u8 = 6;

/// What survives a crash of the process.
#[derive(Clone, Debug)]
struct World {
    /// The state store: records read, and the outbox with its rows, which are gone once they are known to be written.
    read: usize,
    outbox: Option<(Marker, Option<Marker>, String)>,
    /// Committed rows and the last committed marker.
    log: String,
    marker: Option<Marker>,
    /// Rows and marker of the open transaction.
    open: Option<(String, Marker)>,
    runs: u8,
    troubles: u8,
}

#[derive(Clone, Debug)]
struct Process {
    run: String,
    commit: Commit,
    action: Action,
    /// The transaction was committed, which the process was not told.
    unheard: bool,
}

#[derive(Clone, Debug)]
struct History {
    world: World,
    process: Option<Process>,
}

fn rows(input: &[Option<char>]) -> String {
    input.iter().flatten().collect()
}

impl History {
    fn new() -> Self {
        let world =
            World { read: 0, outbox: None, log: String::new(), marker: None, open: None, runs: 0, troubles: TROUBLES };
        Self { world, process: None }
    }

    /// All that can happen next.
    fn steps(&self) -> Vec<Self> {
        let Some(process) = &self.process else { return vec![self.started()] };
        let mut next = match process.action {
            Action::Rest => self.epochs(),
            Action::Open => self.opened(),
            Action::Send => self.sent(),
            Action::Await => self.with(Event::Acknowledged, &[Remedy::Repeat, Remedy::Abort, Remedy::Reopen]),
            Action::Commit => self.committed(),
            Action::Abort => {
                let mut void = self.clone();
                void.world.open = None;
                let mut next = void.with(Event::Aborted, &[Remedy::Repeat, Remedy::Abort, Remedy::Reopen]);
                next.extend(self.failed(&[Remedy::Repeat, Remedy::Reopen]));
                next
            }
            Action::GiveWay => panic!("nobody else is there: {self:?}"),
        };
        if self.world.troubles > 0 {
            let mut crashed = self.clone();
            crashed.world.troubles -= 1;
            crashed.process = None;
            next.push(crashed);
        }
        next
    }

    fn started(&self) -> Self {
        let mut next = self.clone();
        next.world.runs += 1;
        let (last, owed) = match &self.world.outbox {
            Some((marker, _, rows)) if rows.is_empty() => (Some(marker.clone()), None),
            Some((marker, before, _)) => (before.clone(), Some(marker.clone())),
            None => (None, None),
        };
        let commit = Commit::new(last, owed);
        let run = next.world.runs.to_string();
        next.process = Some(Process { run, commit, action: Action::Open, unheard: false });
        next
    }

    /// An epoch of one record or two is saved, with its outbox where it has output.
    fn epochs(&self) -> Vec<Self> {
        let left = INPUT.len() - self.world.read;
        let saved = (1..=left.min(2)).map(|records| {
            let mut next = self.clone();
            let output = rows(&INPUT[self.world.read..self.world.read + records]);
            next.world.read += records;
            let process = next.process.as_mut().unwrap();
            if output.is_empty() {
                if let Some((_, _, written)) = &mut next.world.outbox {
                    written.clear();
                }
            } else {
                let marker = process.commit.next(&process.run);
                next.world.outbox = Some((marker.clone(), process.commit.last().cloned(), output));
                process.action = process.commit.on(Event::Saved(marker));
            }
            next
        });
        saved.collect()
    }

    fn opened(&self) -> Vec<Self> {
        let mut shut_out = self.clone();
        shut_out.world.open = None;
        shut_out.process.as_mut().unwrap().unheard = false;
        let found = self.world.marker.clone();
        let mut next = shut_out.with(Event::Opened(found), &[Remedy::Repeat, Remedy::Reopen]);
        next.extend(self.failed(&[Remedy::Repeat, Remedy::Reopen]));
        next
    }

    fn sent(&self) -> Vec<Self> {
        assert!(self.world.open.is_none(), "a transaction is open: {self:?}");
        let (marker, _, output) = self.world.outbox.clone().unwrap();
        let (mut whole, mut part) = (self.clone(), self.clone());
        whole.world.open = Some((output.clone(), marker.clone()));
        part.world.open = Some((output[..output.len() - 1].to_owned(), marker));
        let mut next = whole.with(Event::Sent, &[]);
        next.extend(part.failed(&[Remedy::Repeat, Remedy::Abort, Remedy::Reopen]));
        next
    }

    fn committed(&self) -> Vec<Self> {
        if self.process.as_ref().unwrap().unheard {
            let mut told = self.clone();
            told.process.as_mut().unwrap().unheard = false;
            return told.with(Event::Committed, &[Remedy::Reopen]);
        }
        let mut done = self.clone();
        let (output, marker) = done.world.open.take().unwrap();
        done.world.log.push_str(&output);
        done.world.marker = Some(marker);
        let mut next = done.with(Event::Committed, &[]);
        let mut unheard = done;
        unheard.process.as_mut().unwrap().unheard = true;
        next.extend(unheard.failed(&[Remedy::Repeat, Remedy::Abort, Remedy::Reopen]));
        next.extend(self.failed(&[Remedy::Repeat, Remedy::Abort, Remedy::Reopen]));
        next
    }

    /// The process is told that it worked, or, with the same effect, that it failed.
    fn with(&self, event: Event, failures: &[Remedy]) -> Vec<Self> {
        let mut next = self.failed(failures);
        let mut told = self.clone();
        let process = told.process.as_mut().unwrap();
        process.action = process.commit.on(event);
        next.push(told);
        next
    }

    fn failed(&self, remedies: &[Remedy]) -> Vec<Self> {
        if self.world.troubles == 0 {
            return Vec::new();
        }
        let failed = remedies.iter().map(|remedy| {
            let mut next = self.clone();
            next.world.troubles -= 1;
            let process = next.process.as_mut().unwrap();
            process.action = process.commit.on(Event::Failed(*remedy));
            next
        });
        failed.collect()
    }

    /// No row is lost, doubled or out of its order. Says whether all of the input is written.
    fn check(&self) -> bool {
        let expected = rows(&INPUT[..self.world.read]);
        assert!(expected.starts_with(&self.world.log), "{self:?}");
        let resting = self.process.as_ref().is_some_and(|process| process.action == Action::Rest);
        assert!(!resting || self.world.log == expected, "rows are owed: {self:?}");
        resting && self.world.read == INPUT.len()
    }
}

#[test]
fn whatever_crashes_and_fails_each_row_is_written_once() {
    let (mut seen, mut left, mut ends) = (HashSet::new(), vec![History::new()], 0);
    while let Some(history) = left.pop() {
        let mut hasher = DefaultHasher::new();
        format!("{history:?}").hash(&mut hasher);
        if !seen.insert(hasher.finish()) {
            continue;
        }
        ends += usize::from(history.check());
        left.extend(history.steps());
    }
    assert!(seen.len() > 5_000 && ends > 100, "{} states, {ends} ends", seen.len());
}

fn marker(epoch: u64, run: &str) -> Marker {
    Marker { epoch, run: run.to_owned() }
}

/// A process at rest after it has seen `last`.
fn at_rest(last: &Marker) -> Commit {
    let mut commit = Commit::new(Some(last.clone()), None);
    assert_eq!(commit.on(Event::Opened(Some(last.clone()))), Action::Rest);
    commit
}

#[test]
fn of_two_processes_the_one_that_commits_goes_on_and_the_other_gives_way() {
    let last = marker(7, "old");
    let (mut winner, mut loser) = (at_rest(&last), at_rest(&last));
    let (theirs, ours) = (winner.next("theirs"), loser.next("ours"));
    assert_eq!(loser.on(Event::Saved(ours)), Action::Send);
    // Shut out before it could write; nobody else has written yet: it tries again.
    assert_eq!(loser.on(Event::Failed(Remedy::Reopen)), Action::Open);
    assert_eq!(loser.on(Event::Opened(Some(last))), Action::Send);
    // Shut out once more, and now the other has written the epoch of the same number.
    winner.on(Event::Saved(theirs.clone()));
    assert_eq!(winner.on(Event::Committed), Action::Rest);
    assert_eq!(loser.on(Event::Failed(Remedy::Reopen)), Action::Open);
    assert_eq!(loser.on(Event::Opened(Some(theirs))), Action::GiveWay);
}

#[test]
fn a_state_that_was_deleted_goes_on_above_what_was_written() {
    let mut commit = Commit::new(None, None);
    assert_eq!(commit.on(Event::Opened(Some(marker(41, "before")))), Action::Rest);
    let stranger = commit.take_stranger().unwrap();
    assert_eq!((stranger.found, stranger.expected), (Some(marker(41, "before")), None));
    assert_eq!(commit.next("now"), marker(42, "now"));
    assert_eq!(commit.take_stranger(), None);
}

#[test]
fn a_state_from_a_backup_writes_nothing_that_was_written() {
    let mut commit = Commit::new(Some(marker(4, "a")), Some(marker(5, "a")));
    assert_eq!(commit.on(Event::Opened(Some(marker(9, "b")))), Action::Rest);
    assert_eq!(commit.next("c"), marker(10, "c"));
    // A topic of markers that was deleted can't speak for what is owed: better twice than never.
    let mut commit = Commit::new(Some(marker(4, "a")), Some(marker(5, "a")));
    assert_eq!(commit.on(Event::Opened(None)), Action::Send);
}
