//! Capacity from a forecast's distribution and the lead time's. Rule: pure; each number that is decided can be explained by
//! the probabilities that it was chosen for.
//!
//! A decision determines capacity from the moment at which what it asks for is effective to the moment at which what the
//! next decision asks for is. Both depend on the lead time, which is a distribution: a window counts by the probability
//! that it lies between the two ([`outlook`]). Of all numbers of units the smallest is taken whose expected share of that
//! time in overload fits the risk ([`Outlook::units_within`]); the risk is the violation budget, more of it while little
//! was used of late and less while much was ([`risk`]), or the ratio of prices (the newsvendor's rule). A budget is used where
//! that saves most ([`worth`]).

pub mod outlook;
pub mod risk;
pub mod worth;

pub use outlook::Outlook;
