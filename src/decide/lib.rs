//! Capacity decisions: from a forecast, a load and a target's state to units, with every reason written down.
//!
//! **Owns** the policies (one file each under `policy/`, in one ordered list), the window of the forecast that a decision
//! looks at, and the explanation of a decision. **May depend on** `domain` alone.
//!
//! **Pure**: [`decide`] reads its [`DecisionInputs`](prescale_domain::DecisionInputs) and nothing else; it knows no clock,
//! file, network or chance. The same inputs give the same decision, byte for byte, which [`recompute`] checks for a
//! recorded one.
//!
//! How a decision comes about, in the order of [`policy::CHAIN`]:
//!
//! 1. Without a fresh load, or with a gap in its place, present capacity is held: never less, never more.
//! 2. The need is what the configured quantile of the forecast asks for between the moment at which capacity asked for now
//!    becomes effective and the moment at which that of the next decision would; without a usable forecast it is what the
//!    last load asks for at the reactive utilization. A load above the forecast band puts a floor under the need.
//!    While the stream is silent, another source of the load ([`FallbackLoad`](prescale_domain::FallbackLoad)) takes its place:
//!    from there on capacity is held, and that and a usable forecast only add.
//! 3. Bounds of the service and of its target.
//! 4. Stability, for scale-in: what is removed is gone at once, so the forecast until then counts too; the need must have
//!    been lower for a while, by a margin, and not soon after the last change. For scale-out: cooldown.
//! 5. Step limits, and a delay of each service's own.
//! 6. What is said ahead: an announced scale-down, the schedule that wins, the pre-warm before a rise, zero units where
//!    nothing is to be done. It outweighs the need and the stability rules. Then events around the service: floors, ceilings
//!    and holds.
//! 7. An emergency outweighs all of that, adds at once, takes back what it added after its time, and keeps a scale-in from
//!    making the next one.
//!    Members of a consumer group come in numbers among which its partitions divide evenly.
//! 8. Budget and the fleet's change per interval cap the result, and work in flight keeps its units; where the
//!    fleet has not enough for all, a service has what it is granted ([`allocate`]); then the bounds again, which have the last
//!    word on what is wanted. A wish that does not fit into what there is becomes the largest that does; what runs is not taken away for it.
//! 9. Whether it may be done at all: change freeze, circuit breaker, pause. The scale-out of an emergency passes the first
//!    two.
//!
//! What steps 5 to 9 look at is in [`Circumstances`](prescale_domain::Circumstances): a rule whose part is absent does
//! nothing, and without any a decision is what it was before these rules were there, byte for byte. What they remember is in
//! [`RulesMemory`](prescale_domain::RulesMemory); what they say besides the number of units, [`advice`] tells.
//!
//! The caller resolves what needs more than the inputs of one decision, with functions that are pure as well:
//! [`Timetable`] finds the active schedules and change freezes, [`outlook`] reads the forecast beyond the decision's window,
//! [`month_end`] says how long a budget must last, [`due`] which loops are due. [`victims`], [`drain_plan`] and [`drain_step`]
//! say which units go and how.
//!
//! Beside the decision: [`experiment`] tells which of two policies or models is better, and [`selector`] learns which policy
//! suits which service. [`spot`] splits the units of a decision into on-demand and spot ones, and says what to do before a spot
//! unit is lost. [`DependencyLearner`] learns what a caller's load does to its callees, and [`lift`] lifts their forecasts by it;
//! [`weights`] and [`nodes`] say what a load balancer and the nodes under pods are to be told.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails"))]

mod advice;
mod allocate;
mod breaker;
mod budget;
mod cadence;
mod decision;
mod dependency;
mod emergency;
mod events;
pub mod experiment;
mod explain;
mod explain_split;
mod feasibility;
mod groups;
mod inputs;
mod jitter;
pub mod learn;
mod memory;
mod nodes;
mod outlook;
mod plan;
pub mod planner;
pub mod policy;
mod recent;
mod recompute;
mod refusal;
mod rules;
mod scale_in;
mod schedule;
pub mod selector;
pub mod spot;
#[cfg(test)]
mod tests;
mod weights;
mod window;
mod words;

pub use advice::{advice, throttled};
pub use allocate::{allocate, scarce};
pub use breaker::breaker;
pub use budget::{BudgetOf, affordable, month_end};
pub use cadence::{due, turned};
pub use decision::{decide, decided};
pub use dependency::{DependencyLearner, DependencySettings, lift};
pub use emergency::{Emergency, emergency, spike_magnitude, urgent, utilization};
pub use events::{Effect, effects};
pub use explain::explain;
pub use feasibility::{binding_limit, optimization};
pub use groups::consumers;
pub use inputs::Moment;
pub use jitter::jitter;
pub use nodes::{NodePlan, NodeSettings, NodeShape, PodDemand, nodes};
pub use outlook::{OutlookSettings, outlook};
pub use plan::{Context, Plan};
pub use recompute::{Difference, recompute};
pub use refusal::{Refusal, refusal};
pub use rules::{Around, Rules};
pub use scale_in::{DrainStep, Victim, busy_units, drain_plan, drain_step, start_is_overdue, victims};
pub use schedule::{ScheduleFault, Timetable, Upcoming, winner};
pub use weights::{PoolUnits, WeightSettings, weights};
pub use window::{WindowError, forecast_input};
