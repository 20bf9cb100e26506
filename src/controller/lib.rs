//! The loop: reads the `features` topic, keeps history and state, forecasts, decides, acts.
//!
//! **Owns** the loop, its state, champion and challenger, and what readers see of it (`view`). **May depend on** all
//! crates of layers 0 to 2. Acts only on a plan that was validated against fresh state.

pub mod view;
