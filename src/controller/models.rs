//! The registry and the loop keep in step, on the wall clock. Rule: on a thread of its own, so that no decision waits for a
//! bucket; a registry that can't be reached is told and changes nothing.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use prescale_domain::{Span, Timestamp};
use prescale_forecast::online::{Lineage, Online, Serving};
use tokio::sync::mpsc;

use crate::registry::{Draft, ModelRegistry};

/// How often the registry is looked at for another champion.
const LOOK: Span = Span::from_secs(60);
/// Room for news: each look brings one at most.
const NEWS: usize = 4;

/// A model that the loop has promoted, or taken back.
#[derive(Debug)]
struct Order {
    generation: u64,
    at: Timestamp,
    /// It is registered already under this number.
    number: Option<u64>,
    draft: Draft,
}

/// What the loop hears of the registry.
#[derive(Debug)]
pub enum ModelNews {
    /// The model of that generation is registered under a number.
    Registered { generation: u64, number: u64 },
    /// Somebody has made another version the champion.
    Champion { lineage: Lineage, bytes: Vec<u8> },
    /// What went wrong, or `None` that nothing does any more.
    Trouble(Option<String>),
}

/// The loop's end of it.
pub(crate) struct Models {
    orders: Sender<Order>,
    news: mpsc::Receiver<ModelNews>,
    /// The generation that the registry was told last.
    told: Option<u64>,
    config: serde_json::Value,
}

impl Models {
    /// Starts the thread. `known` is the registry's number of the model that serves.
    pub(crate) fn start(registry: ModelRegistry, known: Option<u64>, config: serde_json::Value) -> Self {
        let (orders, waiting) = channel();
        let (sender, news) = mpsc::channel(NEWS);
        let work = move || follow(&registry, known, &waiting, &sender);
        // Without a thread the registry is not kept; the loop goes on.
        drop(std::thread::Builder::new().name("models".to_owned()).spawn(work));
        Self { orders, news, told: None, config }
    }

    /// The next of the news; waits for ever where there will be none.
    pub(crate) async fn next(&mut self) -> ModelNews {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Tells the registry of the model that serves, once for each.
    pub(crate) fn tell(&mut self, now: Timestamp, online: &Online) {
        let Some(Serving { generation, bytes, lineage: Some(lineage) }) = online.serving() else { return };
        if self.told == Some(generation) {
            return;
        }
        self.told = Some(generation);
        let draft = Draft {
            model: prescale_forecast::models::ModelKind::Lstm,
            parent: lineage.parent,
            created_at: now,
            reason: lineage.reason.clone(),
            training: lineage.training.clone(),
            metrics: lineage.metrics.clone(),
            config: self.config.clone(),
            bytes: bytes.to_vec(),
        };
        // The thread may have ended; then nobody keeps it.
        drop(self.orders.send(Order { generation, at: now, number: lineage.number, draft }));
    }
}

fn follow(registry: &ModelRegistry, mut known: Option<u64>, orders: &Receiver<Order>, news: &mpsc::Sender<ModelNews>) {
    let mut first = true;
    let mut troubled = false;
    let mut unsent: Option<Order> = None;
    loop {
        let wait = if first { Span::ZERO } else { LOOK };
        first = false;
        match orders.recv_timeout(wait.to_std()) {
            // A newer one makes an older one that could not be sent pointless.
            Ok(order) => unsent = Some(order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let outcome = match &unsent {
            Some(order) => publish(registry, order).map(|number| {
                known = Some(number);
                let generation = order.generation;
                Some(ModelNews::Registered { generation, number })
            }),
            None => look(registry, &mut known),
        };
        let message = match outcome {
            Ok(message) => {
                unsent = None;
                let better = std::mem::take(&mut troubled);
                message.or_else(|| better.then_some(ModelNews::Trouble(None)))
            }
            Err(error) => {
                troubled = true;
                Some(ModelNews::Trouble(Some(error)))
            }
        };
        if let Some(message) = message
            && news.blocking_send(message).is_err()
        {
            return;
        }
    }
}

/// Registers a model as the champion, or makes the version that it is the champion again.
fn publish(registry: &ModelRegistry, order: &Order) -> Result<u64, String> {
    let said = |error: crate::registry::ModelError| error.to_string();
    let why = format!("the service promoted it, trained as {}", order.draft.reason);
    match order.number {
        None => registry.register(order.draft.clone(), Some(&why)).map_err(said),
        Some(number) => {
            if registry.read().map_err(said)?.champion != Some(number) {
                registry.promote(number, order.at, "the service serves it").map_err(said)?;
            }
            Ok(number)
        }
    }
}

/// The champion there, where it is not the one that is known.
fn look(registry: &ModelRegistry, known: &mut Option<u64>) -> Result<Option<ModelNews>, String> {
    let said = |error: crate::registry::ModelError| error.to_string();
    let Some(champion) = registry.read().map_err(said)?.champion else { return Ok(None) };
    if *known == Some(champion) {
        return Ok(None);
    }
    let (version, bytes) = registry.load(champion).map_err(said)?;
    *known = Some(champion);
    let lineage = Lineage {
        reason: version.reason,
        training: version.training,
        metrics: version.metrics,
        parent: version.parent,
        number: Some(champion),
    };
    Ok(Some(ModelNews::Champion { lineage, bytes }))
}
