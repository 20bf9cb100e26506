//! What types can't say. Rule: every fault names its place, the value and the bound.

use std::collections::BTreeSet;
use std::path::Path;

use prescale_decide::Refusal;
use prescale_domain::{PlanningRule, PlanningSettings, Span, Trigger, Zone};
use prescale_features::Covariate;
use prescale_ingest::feed;

use super::shape::Delivery;
use super::{CloudWatchSource, Config, FallbackSource, Fault, HistorySource, PrometheusSource, ServiceConfig};

/// Covariates of one service: each costs memory and time.
const COVARIATES_MAX: usize = 16;

/// Everything that is wrong with a configuration that has the right form; without a directory, the files that it names are
/// somebody else's to look for.
pub(crate) fn faults(config: &Config, directory: Option<&Path>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |path: String, text: String| faults.push(Fault { path, text });
    if config.kafka.bootstrap_servers.trim().is_empty() {
        fault("kafka.bootstrap_servers".into(), "is empty, expected host:port".into());
    }
    if config.topics.partitions < 1 {
        fault("topics.partitions".into(), format!("{} is below 1", config.topics.partitions));
    }
    let topics = &config.topics;
    if topics.of_records().contains(&topics.epochs.as_str()) {
        fault(
            "topics.epochs".into(),
            format!("`{}` is the name of another topic too, and is compacted", topics.epochs),
        );
    }
    if config.features.processes < 1 {
        fault("features.processes".into(), "0 is below 1".into());
    }
    if config.features.processes > 1 && config.features.delivery == Delivery::AtLeastOnce {
        let text = "several share a pipeline only with features.delivery = \"exactly-once\"";
        fault("features.processes".into(), format!("{}: {text}", config.features.processes));
    }
    let calendars = &config.calendars;
    if let Err(error) = calendars.time_zone.parse::<Zone>() {
        fault("calendars.time_zone".into(), error.to_string());
    }
    if calendars.refresh < Span::from_secs(1) {
        fault("calendars.refresh".into(), format!("{} is shorter than 1s", calendars.refresh));
    }
    for (index, file) in calendars.files.iter().enumerate().filter(|(_, file)| !feed::is_readable(file)) {
        fault(format!("calendars.files[{index}]"), format!("`{file}` ends with neither .ics nor .csv"));
    }
    for (index, country) in calendars.holidays.iter().enumerate() {
        if let Err(wrong) = feed::Holidays::of(country) {
            fault(format!("calendars.holidays[{index}]"), format!("`{country}`: {}", wrong.reason));
        }
    }
    if let Some(early) = config.features.early_step {
        let (early_ms, step) = (early.millis(), config.features.step);
        if early_ms < 1000 || early >= step || step.millis() % early_ms != 0 {
            let text =
                format!("{early} is not a part of features.step, {step}, of at least 1s that it is a multiple of");
            fault("features.early_step".into(), text);
        }
    }
    if config.features.refresh < Span::from_secs(1) {
        fault("features.refresh".into(), format!("{} is shorter than 1s", config.features.refresh));
    }
    if config.features.step < Span::from_secs(1) {
        fault("features.step".into(), format!("{} is shorter than 1s", config.features.step));
    }
    let (retention, coarse) = (config.features.retention, config.features.coarse_retention);
    if coarse != Span::ZERO && coarse <= retention {
        let text = format!("{coarse} is not longer than features.retention, {retention}; \"0s\" switches it off");
        fault("features.coarse_retention".into(), text);
    }
    if config.forecast.step != config.features.step {
        let (forecast, features) = (config.forecast.step, config.features.step);
        fault("forecast.step".into(), format!("{forecast} differs from features.step, {features}"));
    }
    for (key, wrong) in config.lease.faults() {
        fault(key.to_owned(), wrong);
    }
    for (key, wrong) in config.adapter.faults() {
        fault(format!("adapter.{key}"), wrong);
    }
    for (number, source) in config.cloudwatch_metrics.iter().enumerate() {
        for wrong in cloudwatch_faults(source) {
            fault(format!("cloudwatch_metrics[{number}]"), wrong);
        }
    }
    for (number, queue) in config.notices.iter().enumerate() {
        for wrong in queue.faults() {
            fault(format!("notices[{number}]"), wrong);
        }
    }
    for (number, source) in config.prometheus.iter().enumerate() {
        for wrong in prometheus_faults(source) {
            fault(format!("prometheus[{number}]"), wrong);
        }
    }
    for wrong in config.cloudwatch.iter().flat_map(prescale_actuate::CloudWatchSettings::faults) {
        fault("cloudwatch".to_owned(), wrong);
    }
    for wrong in config.forecast.faults() {
        fault(
            format!("forecast.{}", wrong.name),
            format!("{} is out of bounds, expected {}", wrong.value, wrong.expected),
        );
    }
    for (name, place) in [("checkpoints", &config.state.checkpoints), ("models", &config.state.models)] {
        if !(place.is_empty() || place.starts_with("s3://") || place.starts_with("file:///")) {
            fault(
                format!("state.{name}"),
                format!("`{place}` is neither s3://bucket/prefix nor file:///folder, nor empty for state.dir"),
            );
        }
    }
    if config.serve.listen.parse::<std::net::SocketAddr>().is_err() {
        fault(
            "serve.listen".into(),
            format!("`{}` is not an address and port such as 127.0.0.1:8080", config.serve.listen),
        );
    }
    for (index, pipeline) in config.features.pipelines.iter().enumerate() {
        let Some(path) = directory.map(|directory| directory.join(pipeline)) else { break };
        if !path.is_file() {
            fault(format!("features.pipelines[{index}]"), format!("`{}` is not a file", path.display()));
        }
    }
    for wrong in config.timetable().err().into_iter().flatten() {
        fault("schedules".into(), wrong.to_string());
    }
    if config.policy.fast_interval < Span::from_secs(1) {
        fault("policy.fast_interval".into(), format!("{} is shorter than 1s", config.policy.fast_interval));
    }
    if config.policy.slow_interval < Span::from_secs(1) {
        fault("policy.slow_interval".into(), format!("{} is shorter than 1s", config.policy.slow_interval));
    }
    let known: BTreeSet<&str> = config.services.iter().map(|service| service.name.as_str()).collect();
    let named = config.schedules.iter().flat_map(|schedule| &schedule.services);
    let named = named.chain(config.freezes.iter().flat_map(|freeze| &freeze.services));
    for service in named.filter(|service| !known.contains(service.as_str())) {
        fault("schedules".into(), format!("`{service}` is no service of this configuration"));
    }
    let mut names = BTreeSet::new();
    for (index, service) in config.services.iter().enumerate() {
        let path = |key: &str| format!("services[{index}].{key}");
        if service.name.trim().is_empty() {
            fault(path("name"), "is empty".into());
        }
        if !names.insert(service.name.as_str()) {
            fault(path("name"), format!("`{}` is there twice", service.name));
        }
        for text in service.history.iter().flat_map(|history| history_faults(history, directory)) {
            fault(path("history"), text);
        }
        for text in service.fallback.iter().flat_map(|fallback| fallback_faults(fallback, config)) {
            fault(path("fallback"), text);
        }
        for (key, text) in service_faults(service, config) {
            fault(path(key), text);
        }
        for text in service.nodes.iter().flat_map(|nodes| nodes.faults(service, config)) {
            fault(path("nodes"), text);
        }
        for (place, called) in service.calls.iter().enumerate() {
            if *called == service.name {
                fault(path(&format!("calls[{place}]")), format!("`{called}` is the service itself"));
            } else if !known.contains(called.as_str()) {
                fault(path(&format!("calls[{place}]")), format!("`{called}` is no service of this configuration"));
            }
        }
        for (place, text) in covariate_faults(service, config) {
            fault(path(&format!("covariates{place}")), text);
        }
    }
    for (key, text) in config.selector.faults() {
        faults.push(Fault { path: format!("selector.{key}"), text });
    }
    for (place, text) in config.experiments.iter().enumerate().flat_map(|(index, one)| one.faults(index, config)) {
        faults.push(Fault { path: format!("experiments{place}"), text });
    }
    faults
}

fn history_faults(history: &HistorySource, directory: Option<&Path>) -> Vec<String> {
    let mut faults = Vec::new();
    match history {
        HistorySource::File { path, .. } => {
            let path = directory.map(|directory| directory.join(path)).filter(|path| !path.is_file());
            faults.extend(path.map(|path| format!("`{}` is not a file", path.display())));
        }
        HistorySource::Prometheus { url, query, from, to, .. } => {
            faults.extend(query_faults(url, query));
            if let (Some(from), Some(to)) = (from, to)
                && from >= to
            {
                faults.push(format!("from {from} is not before to {to}"));
            }
        }
    }
    faults
}

fn query_faults(url: &str, query: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        faults.push(format!("url `{url}` is not a URL such as http://prometheus:9090"));
    }
    if query.trim().is_empty() {
        faults.push("query is empty, expected PromQL".to_owned());
    }
    faults
}

fn prometheus_faults(source: &PrometheusSource) -> Vec<String> {
    let mut faults = query_faults(&source.url, &source.query);
    if source.service.is_some() == source.service_label.is_some() {
        faults.push("one of service and service_label is needed, to know whose the rows are".to_owned());
    }
    if source.name.trim().is_empty() {
        faults.push("name is empty: the rows would have none".to_owned());
    }
    if source.interval < Span::from_secs(1) {
        faults.push(format!("interval {} is shorter than 1s", source.interval));
    }
    faults
}

fn cloudwatch_faults(source: &CloudWatchSource) -> Vec<String> {
    let mut faults = Vec::new();
    let query = &source.query;
    let named = [
        ("name", &source.name),
        ("service", &source.service),
        ("query.namespace", &query.namespace),
        ("query.metric", &query.metric),
        ("query.statistic", &query.statistic),
    ];
    let empty = named.into_iter().filter(|(_, text)| text.trim().is_empty());
    faults.extend(empty.map(|(key, _)| format!("{key} is empty")));
    let minute = Span::from_minutes(1);
    if query.period < minute || query.period.millis() % minute.millis() != 0 {
        faults.push(format!("query.period {} is not a whole number of minutes", query.period));
    }
    if source.interval < Span::from_secs(1) {
        faults.push(format!("interval {} is shorter than 1s", source.interval));
    }
    if source.settle < Span::ZERO {
        faults.push(format!("settle {} is below 0s", source.settle));
    }
    faults
}

fn fallback_faults(fallback: &FallbackSource, config: &Config) -> Vec<String> {
    let FallbackSource::Prometheus { url, query, after, fresh_for, .. } = fallback;
    let mut faults = query_faults(url, query);
    let usual = config.features.step + config.features.lateness;
    if let Some(after) = after.filter(|after| *after <= usual) {
        let text = "features.step and features.lateness, as long as a stream that speaks may take";
        faults.push(format!("after {after} is not longer than {usual}, {text}"));
    }
    let every = config.policy.fast_interval.min(config.policy.decision_interval);
    if let Some(fresh_for) = fresh_for.filter(|fresh_for| *fresh_for <= every) {
        let text = format!("fresh_for {fresh_for} is not longer than policy.fast_interval, {every}");
        faults.push(format!("{text}: it is asked no sooner"));
    }
    faults
}

fn covariate_faults(service: &ServiceConfig, config: &Config) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let count = service.all_covariates().len();
    if count > COVARIATES_MAX {
        faults.push((String::new(), format!("{count} exceed {COVARIATES_MAX}")));
    }
    for (index, name) in service.covariates.iter().enumerate() {
        let Ok(covariate) = name.parse::<Covariate>();
        let text = match covariate {
            Covariate::Measure(column) if column.trim().is_empty() => "is empty".to_owned(),
            Covariate::Measure(column) if column == service.signal => format!("`{column}` is the signal itself"),
            Covariate::Load(other) if other.as_str() == service.name => format!("`{name}` is the service itself"),
            Covariate::Load(other) if config.services.iter().all(|known| known.name != other.as_str()) => {
                format!("`{name}` is no service of this configuration")
            }
            _ => continue,
        };
        faults.push((format!("[{index}]"), text));
    }
    faults
}

fn service_faults(service: &ServiceConfig, config: &Config) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let settings = service.policy_settings(&config.policy);
    if !(service.unit_capacity.is_finite() && service.unit_capacity > 0.0) {
        faults.push(("unit_capacity", format!("{} is not above 0", service.unit_capacity)));
    }
    if !(service.criticality.is_finite() && service.criticality > 0.0) {
        faults.push(("criticality", format!("{} is not above 0", service.criticality)));
    }
    if service.partitions == Some(0) {
        faults.push(("partitions", "0 is no number of partitions; leave it out where there are none".to_owned()));
    }
    if service.signals.latency.is_some() && service.objective.latency.is_none() {
        let text = "is read to learn what a unit carries within objective.latency, which is missing";
        faults.push(("signals.latency", text.to_owned()));
    }
    faults.extend(service.opening_hours(Zone::UTC).err());
    if settings.min_units > settings.max_units {
        faults.push(("target", format!("min {} exceeds max {}", settings.min_units, settings.max_units)));
    }
    if !(settings.quantile > 0.0 && settings.quantile < 1.0) {
        faults.push(("policy.quantile", format!("{} is not between 0 and 1", settings.quantile)));
    }
    if !(0.0..1.0).contains(&settings.hysteresis) {
        faults.push(("policy.hysteresis", format!("{} is not in [0, 1)", settings.hysteresis)));
    }
    if !(settings.reactive_utilization > 0.0 && settings.reactive_utilization <= 1.0) {
        faults.push(("policy.reactive_utilization", format!("{} is not in (0, 1]", settings.reactive_utilization)));
    }
    faults.extend(planning_faults(&settings.planning));
    faults
}

pub(super) fn planning_faults(planning: &PlanningSettings) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let mut expect = |holds: bool, key: &'static str, value: f64, expected: &str| {
        if !holds {
            faults.push((key, format!("{value} is not {expected}")));
        }
    };
    let share = |value: f64| value > 0.0 && value <= 1.0;
    let budget = planning.violation_budget;
    expect(budget > 0.0 && budget < 0.5, "objective.violation_budget", budget, "between 0 and 0.5");
    expect(share(planning.target_utilization), "policy.target_utilization", planning.target_utilization, "in (0, 1]");
    expect((0.0..=0.5).contains(&planning.risk_max), "policy.risk_max", planning.risk_max, "in [0, 0.5]");
    expect(share(planning.smoothing), "policy.smoothing", planning.smoothing, "in (0, 1]");
    expect(
        (0.0..=1.0).contains(&planning.confidence_min),
        "policy.confidence_min",
        planning.confidence_min,
        "in [0, 1]",
    );
    expect(
        planning.headroom >= 0.0 && planning.headroom.is_finite(),
        "policy.headroom",
        planning.headroom,
        "0 or more",
    );
    if let Some(most) = planning.utilization_max {
        expect(share(most), "policy.utilization_max", most, "in (0, 1]");
    }
    let (down, up) = (planning.scale_down_at, planning.scale_up_at);
    expect(share(up), "policy.scale_up_at", up, "in (0, 1]");
    expect(down >= 0.0 && down < up, "policy.scale_down_at", down, "below policy.scale_up_at");
    if let Some(missed) = planning.missed_usd_hour {
        expect(missed > 0.0 && missed.is_finite(), "objective.missed_usd_hour", missed, "above 0");
    }
    if planning.budget_period < Span::from_minutes(60) {
        faults.push(("policy.budget_period", format!("{} is shorter than 1h", planning.budget_period)));
    }
    if planning.rule == PlanningRule::WeightedTriggers && planning.triggers.is_empty() {
        faults.push(("policy.triggers", "is empty, and the rule weighted-triggers needs some".to_owned()));
    }
    for trigger in &planning.triggers {
        let sound = |value: f64| value > 0.0 && value.is_finite();
        if !(sound(trigger.target) && sound(trigger.weight)) {
            let Trigger { signal, target, weight } = trigger;
            faults.push((
                "policy.triggers",
                format!("`{signal}`: target {target} and weight {weight} are to be above 0"),
            ));
        }
    }
    faults
}

/// Why predictive scaling of a service is impossible, if it is (§6.9): its JSON is the whole answer. A service that may run
/// by the reactive rule alone is not refused.
pub(crate) fn refusal(config: &Config) -> Option<String> {
    let refused = |service: &ServiceConfig| {
        let lead = service.lead_times(config.lead_time);
        let needed =
            config.features.lateness + config.policy.decision_interval + lead.provisioning_latency + lead.warm_up;
        let refusal = prescale_decide::refusal(lead.provisioning_latency, needed, service.horizon(config))?;
        Some((refusal, refusal.json(&service.name)))
    };
    let scaled_ahead = config.services.iter().filter(|service| !service.allow_reactive_only);
    let mut all: Vec<(Refusal, String)> = scaled_ahead.filter_map(refused).collect();
    // What is physically impossible is said first.
    all.sort_by_key(|(refusal, _)| *refusal != Refusal::Provisioning);
    all.into_iter().next().map(|(_, json)| json)
}
