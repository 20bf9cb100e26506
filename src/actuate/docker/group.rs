//! Which containers a group has, and which of them come and go. Rule: pure; what is told here of a list of containers is all
//! that the target acts on.

use bollard::models::{ContainerSummary, ContainerSummaryHealthStatusEnum, ContainerSummaryStateEnum as State};

/// Labels by which Compose knows its containers.
pub(super) const PROJECT: &str = "com.docker.compose.project";
pub(super) const SERVICE: &str = "com.docker.compose.service";
pub(super) const NUMBER: &str = "com.docker.compose.container-number";
pub(super) const ONE_OFF: &str = "com.docker.compose.oneoff";

/// A container of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: String,
    /// Without the slash before it.
    pub(super) name: String,
    pub(super) number: u32,
    /// It counts as capacity that is wanted; else it is stopped and could be started.
    pub(super) alive: bool,
    /// It serves: running, and healthy if it has a health check.
    pub(super) ready: bool,
    /// Seconds since 1970.
    created: i64,
}

/// The group's containers, of a list that the engine made by its labels. What is on its way out is none of them, and what
/// `docker-compose run` started is not either.
pub(super) fn members(listed: Vec<ContainerSummary>) -> Vec<Member> {
    let mut members: Vec<_> = listed.into_iter().filter_map(member).collect();
    members.sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
    members
}

fn member(summary: ContainerSummary) -> Option<Member> {
    let label = |name: &str| summary.labels.as_ref()?.get(name);
    if label(ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let alive = match summary.state? {
        State::RUNNING | State::RESTARTING | State::PAUSED => true,
        State::CREATED | State::EXITED => false,
        State::EMPTY | State::REMOVING | State::DEAD | State::STOPPING => return None,
    };
    let name = summary.names.as_ref()?.first()?.trim_start_matches('/').to_owned();
    let numbered = label(NUMBER).and_then(|number| number.parse().ok());
    let number = numbered.unwrap_or_else(|| split_number(&name).2.unwrap_or(1));
    let ready = summary.state == Some(State::RUNNING) && healthy(&summary);
    Some(Member { id: summary.id?, number, alive, ready, created: summary.created.unwrap_or_default(), name })
}

/// Engines before API 1.52 tell it in the words for people only: `Up 5 seconds (health: starting)`.
fn healthy(summary: &ContainerSummary) -> bool {
    use ContainerSummaryHealthStatusEnum as Health;
    if let Some(health) = summary.health.as_ref().and_then(|health| health.status) {
        return !matches!(health, Health::STARTING | Health::UNHEALTHY);
    }
    let words = summary.status.as_deref().unwrap_or_default();
    !words.contains("(unhealthy)") && !words.contains("(health: starting)")
}

/// A container's name before its number, what separates them, and the number: `shop-web-3` is `shop-web`, `-`, 3.
pub(super) fn split_number(name: &str) -> (&str, &str, Option<u32>) {
    let rest = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let number = name[rest.len()..].parse().ok();
    match (rest.strip_suffix(['-', '_']), number) {
        (Some(base), Some(number)) if !base.is_empty() => (base, &rest[base.len()..], Some(number)),
        _ => (name, "-", None),
    }
}

pub(super) fn alive(members: &[Member]) -> u32 {
    u32::try_from(members.iter().filter(|member| member.alive).count()).unwrap_or(u32::MAX)
}

pub(super) fn ready(members: &[Member]) -> u32 {
    u32::try_from(members.iter().filter(|member| member.ready).count()).unwrap_or(u32::MAX)
}

/// Those of `members` that go when `count` have to: first what does not serve, then the newest.
pub(super) fn victims(members: &[Member], count: u32) -> Vec<&Member> {
    let mut alive: Vec<_> = members.iter().filter(|member| member.alive).collect();
    alive.sort_by_key(|member| (member.ready, std::cmp::Reverse((member.created, member.number))));
    alive.truncate(count as usize);
    alive
}

/// The container that new ones are copies of: the newest that serves, else the newest that there is.
pub(super) fn source(members: &[Member]) -> Option<&Member> {
    members.iter().max_by_key(|member| (member.ready, member.alive, member.created, member.number))
}

/// `count` numbers for new containers, above all that were given.
pub(super) fn next_numbers(members: &[Member], count: u32) -> std::ops::Range<u32> {
    let last = members.iter().map(|member| member.number).max().unwrap_or_default();
    let first = last.saturating_add(1);
    first..first.saturating_add(count)
}
