//! Parts of the traffic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DecisionId, ServiceName, Timestamp};

/// A pool and its part of the traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolWeight {
    pub pool: String,
    pub weight: u32,
}

/// What part of a service's traffic each of its pools is to have: a record of the weights topic. It holds until the next of the
/// service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadWeights {
    pub service: ServiceName,
    pub at: Timestamp,
    /// The decision that it goes with.
    pub decision: DecisionId,
    /// Whole numbers with a fixed sum; 0 = no new requests.
    pub weights: Vec<PoolWeight>,
}
