//! Docker: containers of a group, and services of a swarm. Rule: what does not carry the group's labels is never touched, and
//! of what does only the number changes.

mod containers;
mod copy;
mod engine;
mod group;
mod swarm;
#[cfg(test)]
mod tests;

pub use containers::{ContainerGroup, ContainerGroupSettings, ContainerTemplate};
pub use swarm::{SwarmService, SwarmServiceSettings};
