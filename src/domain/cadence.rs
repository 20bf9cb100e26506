//! How often the loops turn. Rule: the fast loop never waits for a slower one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Span, Timestamp};

pub const FAST_LOOP: Span = Span::from_secs(15);
pub const NORMAL_LOOP: Span = Span::from_secs(60);
pub const SLOW_LOOP: Span = Span::from_secs(300);

/// Time between turns of each loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CadenceSettings {
    /// Emergencies and the reactive rule.
    pub fast: Span,
    /// Decisions.
    pub normal: Span,
    /// Predictive re-planning.
    pub slow: Span,
}

impl Default for CadenceSettings {
    fn default() -> Self {
        Self { fast: FAST_LOOP, normal: NORMAL_LOOP, slow: SLOW_LOOP }
    }
}

/// When each loop turned last; `None` = never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LastTurns {
    pub fast: Option<Timestamp>,
    pub normal: Option<Timestamp>,
    pub slow: Option<Timestamp>,
}

/// Which loops are due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    pub fast: bool,
    pub normal: bool,
    pub slow: bool,
}
