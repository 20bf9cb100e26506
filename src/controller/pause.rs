//! The kill switch: somebody stops all changes, of one service or of all. Rule: an order is kept before it is answered,
//! counts from the very next decision on, and leaves who gave it and when.

use std::collections::BTreeMap;
use std::time::Duration;

use prescale_domain::{Pause, PauseScope, ServiceName, Timestamp};
use prescale_telemetry::controller::PauseChanged;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::{Controller, ControllerError};

/// Changes that are remembered.
const CHANGES_MAX: usize = 100;
/// Orders that wait for the loop.
const ORDERS_MAX: usize = 8;
/// How long the loop may take: it may be waiting for a target.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What is stopped, by whom and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pauses {
    /// All services are.
    pub all: Option<Pause>,
    pub services: BTreeMap<ServiceName, Pause>,
    /// The last changes of it, newest last.
    pub changes: Vec<PauseChange>,
}

/// Somebody has stopped changes, or let them go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PauseChange {
    pub at: Timestamp,
    /// `None` = all services.
    pub service: Option<ServiceName>,
    pub paused: bool,
    /// Who, as far as is known.
    pub by: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseOrder {
    /// `None` = all services.
    pub service: Option<ServiceName>,
    pub pause: bool,
    pub by: String,
}

/// An order on its way to the loop.
#[derive(Debug)]
pub struct Ordered {
    order: PauseOrder,
    reply: oneshot::Sender<Pauses>,
}

/// Gives orders to a loop. It reaches the loop directly: what stops changes must work when Kafka does not.
#[derive(Clone, Debug)]
pub struct PauseSwitch {
    sender: mpsc::Sender<Ordered>,
}

impl PauseSwitch {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Ordered>) {
        let (sender, receiver) = mpsc::channel(ORDERS_MAX);
        (Self { sender }, receiver)
    }

    /// What is paused once `order` is carried out and kept.
    ///
    /// # Errors
    /// A loop that does not answer; what it has been told already it will still do.
    pub async fn give(&self, order: PauseOrder) -> Result<Pauses, String> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            let ordered = Ordered { order, reply };
            self.sender.send(ordered).await.map_err(|_| "it has ended".to_owned())?;
            answer.await.map_err(|_| "it ended meanwhile".to_owned())
        };
        let late = |_| format!("no answer within {} s", ANSWER_WITHIN.as_secs());
        tokio::time::timeout(ANSWER_WITHIN, asked).await.map_err(late)?
    }
}

impl Pauses {
    /// What holds for a service: that of all comes first.
    pub fn of(&self, service: &ServiceName) -> Option<&Pause> {
        self.all.as_ref().or_else(|| self.services.get(service))
    }

    /// Carries out an order; `None` = it was so already, and since when and by whom stays.
    fn carry_out(&mut self, order: PauseOrder, now: Timestamp) -> Option<PauseChange> {
        let PauseOrder { service, pause, by } = order;
        let is_paused = match &service {
            Some(name) => self.services.contains_key(name),
            None => self.all.is_some(),
        };
        if is_paused == pause {
            return None;
        }
        let scope = if service.is_some() { PauseScope::Service } else { PauseScope::All };
        let made = pause.then(|| Pause { scope, by: by.clone(), since: now });
        match (&service, made) {
            (Some(name), Some(made)) => drop(self.services.insert(name.clone(), made)),
            (Some(name), None) => drop(self.services.remove(name)),
            (None, made) => self.all = made,
        }
        let change = PauseChange { at: now, service, paused: pause, by };
        self.changes.push(change.clone());
        let beyond = self.changes.len().saturating_sub(CHANGES_MAX);
        self.changes.drain(..beyond);
        Some(change)
    }
}

impl Controller {
    /// Tells at the start what is still paused from before: readers, the log and the metric.
    pub(crate) fn recall_pauses(&mut self) {
        let Pauses { all, services, .. } = &self.state.pauses;
        let each = services.iter().map(|(service, pause)| (Some(service), pause));
        for (service, pause) in all.iter().map(|pause| (None, pause)).chain(each) {
            PauseChanged { service, paused: true, by: &pause.by }.emit();
        }
        self.show.paused(&self.state.pauses);
    }

    pub(crate) fn take_order(&mut self, ordered: Ordered) -> Result<(), ControllerError> {
        let Ordered { order, reply } = ordered;
        if let Some(change) = self.state.pauses.carry_out(order, self.clock.now()) {
            self.snapshot()?;
            PauseChanged { service: change.service.as_ref(), paused: change.paused, by: &change.by }.emit();
            self.show.paused(&self.state.pauses);
        }
        // Who asked may have gone: it is done all the same.
        drop(reply.send(self.state.pauses.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    fn order(service: Option<&str>, pause: bool) -> PauseOrder {
        PauseOrder { service: service.map(ServiceName::new), pause, by: "127.0.0.1".to_owned() }
    }

    #[test]
    fn a_pause_of_all_outweighs_that_of_one_which_outlives_it() {
        let (mut pauses, web) = (Pauses::default(), ServiceName::new("web"));
        assert_eq!(pauses.of(&web), None);
        pauses.carry_out(order(Some("web"), true), at(1)).unwrap();
        pauses.carry_out(order(None, true), at(2)).unwrap();
        let scope = |pauses: &Pauses, name: &str| pauses.of(&name.into()).map(|pause| (pause.scope, pause.since));
        assert_eq!(scope(&pauses, "web"), Some((PauseScope::All, at(2))));
        assert_eq!(scope(&pauses, "shop"), Some((PauseScope::All, at(2))));
        pauses.carry_out(order(None, false), at(3)).unwrap();
        assert_eq!((scope(&pauses, "web"), scope(&pauses, "shop")), (Some((PauseScope::Service, at(1))), None));
    }

    #[test]
    fn an_order_that_changes_nothing_leaves_nothing() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.carry_out(order(None, false), at(1)), None);
        let change = pauses.carry_out(order(None, true), at(2)).unwrap();
        assert_eq!((change.at, change.paused, change.by.as_str()), (at(2), true, "127.0.0.1"));
        let before = pauses.clone();
        assert_eq!(pauses.carry_out(order(None, true), at(3)), None);
        assert_eq!(pauses, before);
    }

    #[test]
    fn the_changes_remembered_are_the_last() {
        let mut pauses = Pauses::default();
        for minute in 0..300 {
            pauses.carry_out(order(Some("web"), minute % 2 == 0), at(minute)).unwrap();
        }
        assert_eq!(pauses.changes.len(), CHANGES_MAX);
        assert_eq!(pauses.changes.last().map(|change| change.at), Some(at(299)));
    }
}
