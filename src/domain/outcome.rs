//! What became of a decision. Rule: recorded before and after.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DecisionId, ServiceName, Timestamp};

/// How an attempt to carry out a decision ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// Recorded before the attempt.
    Started,
    /// The target now wants `units`; `clamped` where its own bounds changed the wish.
    Applied { units: u32, clamped: bool },
    /// The target wanted that already.
    Unchanged { units: u32 },
    /// The target's owner has paused it, or the target allows no such change now: it goes on wanting `units`.
    Held { units: u32, reason: String },
    /// `code` is the class of the error (`not-found`, `denied`, `throttled`, `timeout`, `unreachable`, …).
    Failed { code: String, error: String },
}

/// One decision carried out against a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Actuation {
    pub decision: DecisionId,
    pub service: ServiceName,
    pub at: Timestamp,
    pub target: String,
    pub outcome: Outcome,
}
