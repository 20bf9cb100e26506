//! Another source of the load, for when the stream is silent. Rule: it is asked by others, on threads of theirs; the loop looks
//! at what was told last and waits for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use prescale_domain::{Decision, DecisionKind, FallbackLoad, ServiceName, Span, Timestamp};
use prescale_telemetry::controller::{LoadFrom, LoadSource};
use tokio::sync::watch;

use crate::Controller;
use crate::settings::ClockMode;

/// The source of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackSettings {
    /// Its name: `prometheus`.
    pub source: String,
    /// The stream is silent once the end of its last known window is longer ago than this.
    pub after: Span,
    /// A load that is older is not trusted.
    pub fresh_for: Span,
}

/// Why a source told nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// For the record: `unreachable`, `refused`, `no-series`, `no-load`.
    pub code: String,
    /// For people.
    pub text: String,
}

/// What was told of one service.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    /// The last load, and the moment that it is of.
    last: Option<(f64, Timestamp)>,
    /// Why nothing was told since.
    silence: Option<Silence>,
}

type Board = BTreeMap<ServiceName, Told>;

/// Where those who ask write what they were told; the newest counts.
#[derive(Clone, Debug)]
pub struct FallbackBoard(Arc<watch::Sender<Board>>);

impl FallbackBoard {
    /// Enters what a source said of a service just now: the load and its moment, or why there is none.
    pub fn tell(&self, service: &ServiceName, answer: Result<(f64, Timestamp), Silence>) {
        self.0.send_modify(|board| {
            let told = board.entry(service.clone()).or_default();
            match answer {
                Ok(sample) => *told = Told { last: Some(sample), silence: None },
                Err(silence) => told.silence = Some(silence),
            }
        });
    }
}

/// The loop's end of it.
#[derive(Debug)]
pub struct Fallbacks {
    settings: BTreeMap<ServiceName, FallbackSettings>,
    heard: watch::Receiver<Board>,
    /// Where the load of each service came from in its last decision.
    from: BTreeMap<ServiceName, LoadFrom>,
}

impl Default for Fallbacks {
    /// No service has another source.
    fn default() -> Self {
        Self::new(BTreeMap::new()).0
    }
}

impl Fallbacks {
    /// For the services that have another source, and where to write what that says.
    pub fn new(settings: BTreeMap<ServiceName, FallbackSettings>) -> (Self, FallbackBoard) {
        let (sender, heard) = watch::channel(Board::new());
        (Self { settings, heard, from: BTreeMap::new() }, FallbackBoard(Arc::new(sender)))
    }

    /// What a decision about `service` looks at; `None` = it has no other source.
    pub(crate) fn of(&self, service: &ServiceName) -> Option<FallbackLoad> {
        let FallbackSettings { source, after, fresh_for } = self.settings.get(service)?.clone();
        let told = self.heard.borrow().get(service).cloned();
        let not_asked = || "not-asked".to_owned();
        let (last, missing) = match told {
            Some(Told { last, silence }) => (last, silence.map(|silence| silence.code).unwrap_or_default()),
            None => (None, not_asked()),
        };
        let (load, at) = last.unzip();
        Some(FallbackLoad { source, load, at, missing, after, fresh_for })
    }

    /// Waits until something was told; for ever where nobody tells anything.
    pub(crate) async fn changed(&mut self) {
        if self.settings.is_empty() || self.heard.changed().await.is_err() {
            std::future::pending().await
        }
    }

    fn silence(&self, service: &ServiceName) -> Option<String> {
        Some(self.heard.borrow().get(service)?.silence.as_ref()?.text.clone())
    }
}

impl Controller {
    /// The loop with other sources of load; heeded on the wall clock only, since a replay must not depend on them.
    #[must_use]
    pub fn with_fallbacks(mut self, fallbacks: Fallbacks) -> Self {
        if self.settings.clock == ClockMode::Wall {
            self.fallbacks = fallbacks;
        }
        self
    }

    /// Whether something is to be decided at once: another source asks for more than there is, or a load comes from
    /// elsewhere than before.
    pub(crate) fn fallback_asks(&mut self, now: Timestamp) -> bool {
        if self.fallbacks.settings.is_empty() {
            return false;
        }
        let mut services = self.settings.services.clone();
        let fleet = self.fleet(&services, now);
        services.retain(|service| self.fallbacks.settings.contains_key(&service.name));
        services.iter().any(|service| {
            let decision = self.decide_one(service, now, &fleet);
            let from = load_from(&decision);
            let more = decision.kind == DecisionKind::ScaleUp && from == LoadFrom::Fallback;
            more || self.fallbacks.from.get(&service.name).copied().unwrap_or_default() != from
        })
    }

    /// Tells where the load of a decision came from, where that has changed, and what is wrong with its sources.
    pub(crate) fn note_fallback(&mut self, decision: &Decision) {
        let service = &decision.service;
        let Some(settings) = self.fallbacks.settings.get(service) else { return };
        let from = load_from(decision);
        let reason = decision.reasons.iter().find(|reason| reason.code.starts_with("fallback-"));
        let trouble = self.fallbacks.silence(service);
        let said = reason.map(|reason| format!("`{service}`: {}", reason.text));
        let asked = trouble.as_ref().map(|text| format!("`{service}`: {} tells no load: {text}", settings.source));
        self.show.degrade(&format!("fallback-{service}"), said.clone());
        self.show.degrade(&format!("fallback-source-{service}"), asked);
        let before = self.fallbacks.from.insert(service.clone(), from).unwrap_or_default();
        if before != from {
            LoadSource { service, from, text: said.as_deref().unwrap_or("the stream tells the load again") }.emit();
        }
    }
}

fn load_from(decision: &Decision) -> LoadFrom {
    let said = |code: &str| decision.reasons.iter().any(|reason| reason.code == code);
    match (said("fallback-need"), said("fallback-missing")) {
        (true, _) => LoadFrom::Fallback,
        (false, true) => LoadFrom::Nowhere,
        (false, false) => LoadFrom::Stream,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use prescale_store::MemoryStore;

    use super::*;
    use crate::Event;
    use crate::fixture::{controller, minute, polled, run, web};
    use crate::view::Handle;

    fn prometheus() -> (Fallbacks, FallbackBoard) {
        let (after, fresh_for) = (Span::from_secs(125), Span::from_secs(60));
        let settings = FallbackSettings { source: "prometheus".to_owned(), after, fresh_for };
        Fallbacks::new(BTreeMap::from([(web(), settings)]))
    }

    /// Waits until the last decision asks for so many units.
    async fn decided(handle: &mut Handle, units: u32) {
        let found = async {
            loop {
                let view = Arc::clone(&handle.view.borrow_and_update());
                if view.services[&web()].decisions.back().is_some_and(|decision| decision.desired == units) {
                    return;
                }
                handle.view.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(5), found).await.unwrap();
    }

    fn silence() -> Silence {
        Silence { code: "unreachable".to_owned(), text: "it can't be reached".to_owned() }
    }

    #[test]
    fn a_load_from_elsewhere_is_in_the_inputs_and_readers_are_told() {
        let store = Arc::new(MemoryStore::default());
        let (fallbacks, board) = prometheus();
        assert_eq!(fallbacks.of(&web()).unwrap().missing, "not-asked");
        board.tell(&web(), Ok((700.0, minute(100))));
        let quiet = controller(&store, ClockMode::Wall, 100, None).with_fallbacks(fallbacks);
        let (view, _) = run(quiet, vec![]);
        let decision = view.services[&web()].decisions.back().unwrap();
        assert_eq!((decision.kind, decision.desired), (DecisionKind::ScaleUp, 100), "{decision:?}");
        let told = decision.inputs.circumstances.fallback.as_ref().unwrap();
        assert_eq!((told.load, told.at, told.missing.as_str()), (Some(700.0), Some(minute(100)), ""));
        assert!(prescale_decide::recompute(decision).is_ok());
        assert!(view.degradations.iter().any(|text| text.contains("prometheus tells 700")), "{:?}", view.degradations);
    }

    #[test]
    fn where_neither_tells_a_load_capacity_is_held_and_readers_are_told_why() {
        let store = Arc::new(MemoryStore::default());
        let (fallbacks, board) = prometheus();
        board.tell(&web(), Ok((700.0, minute(90))));
        board.tell(&web(), Err(silence()));
        let quiet = controller(&store, ClockMode::Wall, 100, None).with_fallbacks(fallbacks);
        let (view, _) = run(quiet, vec![]);
        let decision = view.services[&web()].decisions.back().unwrap();
        assert_eq!(decision.kind, DecisionKind::None, "{decision:?}");
        let said = view.degradations.join("\n");
        assert!(said.contains("has told nothing for 10m (unreachable)"), "{said}");
        assert!(said.contains("prometheus tells no load: it can't be reached"), "{said}");
    }

    #[test]
    fn while_the_stream_speaks_nothing_is_said_and_a_replay_does_not_look() {
        let store = Arc::new(MemoryStore::default());
        let (fallbacks, board) = prometheus();
        board.tell(&web(), Ok((700.0, minute(4))));
        let fed = controller(&store, ClockMode::Wall, 4, None).with_fallbacks(fallbacks);
        let (view, _) = run(fed, vec![polled(0, 4)]);
        let decision = view.services[&web()].decisions.back().unwrap();
        assert!(decision.reasons.iter().all(|reason| !reason.code.starts_with("fallback")), "{decision:?}");
        assert_eq!(view.degradations, Vec::<String>::new());

        let (fallbacks, board) = prometheus();
        board.tell(&web(), Ok((700.0, minute(4))));
        let store = Arc::new(MemoryStore::default());
        let replay = controller(&store, ClockMode::Event, 4, None).with_fallbacks(fallbacks);
        let (view, _) = run(replay, vec![polled(0, 4)]);
        let decisions = &view.services[&web()].decisions;
        assert!(decisions.iter().all(|decision| decision.inputs.circumstances.fallback.is_none()), "{decisions:?}");
    }

    #[test]
    fn news_of_another_source_wake_the_loop_and_are_decided_on_at_once() {
        let store = Arc::new(MemoryStore::default());
        let (fallbacks, board) = prometheus();
        let quiet = controller(&store, ClockMode::Wall, 100, None).with_fallbacks(fallbacks);
        let mut handle = quiet.handle();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (sender, inbox) = tokio::sync::mpsc::channel(1);
            let running = tokio::spawn(quiet.run(inbox, false));
            // The first decision is held; the next regular one comes a minute later.
            decided(&mut handle, 1).await;
            board.tell(&web(), Ok((70.0, minute(100))));
            decided(&mut handle, 10).await;
            sender.send(Event::Stop).await.unwrap();
            running.await.unwrap().unwrap();
        });
    }
}
