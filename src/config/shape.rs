//! The form of the configuration. Rule: no defaults here, they live in `config/default.toml`; `Option` in a service means
//! "as the section of that name says".

use std::collections::BTreeMap;

use prescale_actuate::{CloudWatchSettings, SpotQueueSettings, TargetSettings};
use prescale_adapter::AdapterSettings;
use prescale_decide::{ScheduleFault, Timetable};
use prescale_domain::{
    FleetChangeSettings, FreezeSettings, Mode, OpeningHours, PlanningRule, PlanningSettings, PolicySettings,
    ResourceLimits, Resources, RuleSettings, ScheduleSettings, SignalColumns, Span, Trigger, Zone,
};
use prescale_forecast::online::OnlineSettings;
use prescale_ingest::registry::RegistrySettings;
use prescale_serve::Writers;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::experiment::ExperimentConfig;
use super::lease::LeaseConfig;
use super::nodes::NodesConfig;
use super::selector::SelectorConfig;
use super::size::ByteSize;
use super::source::{CloudWatchSource, FallbackSource, HistorySource, PrometheusSource};

/// The configuration file of Prescale.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) mode: Mode,
    pub(crate) kafka: Kafka,
    pub(crate) topics: Topics,
    pub(crate) features: Features,
    pub(crate) schema_registry: SchemaRegistry,
    pub(crate) calendars: Calendars,
    pub(crate) state: State,
    pub(crate) lease: LeaseConfig,
    pub(crate) serve: Serve,
    /// Servers for HPA, KEDA and Envoy.
    pub(crate) adapter: AdapterSettings,
    /// Queries whose results become rows of the metrics topic.
    #[serde(default)]
    pub(crate) prometheus: Vec<PrometheusSource>,
    /// Metrics of CloudWatch that become rows of the metrics topic.
    #[serde(default)]
    pub(crate) cloudwatch_metrics: Vec<CloudWatchSource>,
    /// Queues with the notices of spot units, which become records of the capacity topic.
    #[serde(default)]
    pub(crate) notices: Vec<SpotQueueSettings>,
    /// What was forecast and decided, for those who look at CloudWatch; without it nothing goes there.
    #[serde(default)]
    pub(crate) cloudwatch: Option<CloudWatchSettings>,
    pub(crate) shadow: ShadowConfig,
    pub(crate) policy: Policy,
    pub(crate) lead_time: LeadTimes,
    /// The rules around the planner, for services that do not say otherwise.
    pub(crate) rules: RuleSettings,
    /// What all services together may take.
    pub(crate) fleet_limits: ResourceLimits,
    pub(crate) fleet_change: FleetChangeSettings,
    pub(crate) forecast: OnlineSettings,
    #[serde(default)]
    pub(crate) schedules: Vec<ScheduleSettings>,
    /// Times in which capacity is not to change.
    #[serde(default)]
    pub(crate) freezes: Vec<FreezeSettings>,
    #[serde(default)]
    pub(crate) services: Vec<ServiceConfig>,
    #[serde(default)]
    pub(crate) experiments: Vec<ExperimentConfig>,
    pub(crate) selector: SelectorConfig,
}

impl Config {
    /// Schedules and change freezes of all services.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn timetable(&self) -> Result<Timetable, Vec<ScheduleFault>> {
        Timetable::try_new(&self.schedules, &self.freezes)
    }
}

/// How to reach Kafka.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kafka {
    pub(crate) bootstrap_servers: String,
    /// Properties of librdkafka, passed through.
    pub(crate) client: BTreeMap<String, String>,
}

/// Names of the topics that Prescale owns.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Topics {
    pub(crate) features: String,
    pub(crate) events: String,
    pub(crate) event_minutes: String,
    pub(crate) forecasts: String,
    pub(crate) decisions: String,
    pub(crate) actuations: String,
    pub(crate) qos: String,
    pub(crate) capacity: String,
    pub(crate) weights: String,
    pub(crate) dead_letters: String,
    pub(crate) epochs: String,
    pub(crate) partitions: i32,
}

impl Topics {
    /// Those of records: all but `epochs`, which is compacted, and `event_minutes`; they are made by who writes them.
    pub(crate) fn of_records(&self) -> [&str; 9] {
        let Self { features, events, forecasts, decisions, actuations, qos, capacity, weights, dead_letters, .. } =
            self;
        [features, events, forecasts, decisions, actuations, qos, capacity, weights, dead_letters].map(String::as_str)
    }
}

/// Feature SQL and what becomes of its windows.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Features {
    pub(crate) pipelines: Vec<String>,
    /// Folder of Rust UDFs, relative to the pipeline that calls them.
    pub(crate) udfs: String,
    pub(crate) step: Span,
    /// Width of the windows of a pipeline of its own that tell the load of a window of `step` before it is closed; absent =
    /// decisions wait for closed windows.
    pub(crate) early_step: Option<Span>,
    pub(crate) lateness: Span,
    pub(crate) retention: Span,
    /// How long of older windows the hours are kept; 0 = older windows are forgotten.
    pub(crate) coarse_retention: Span,
    pub(crate) delivery: Delivery,
    /// How many processes share the partitions of each pipeline's sources; 1 = this one has all of them.
    pub(crate) processes: u32,
    /// A row further ahead of its record's timestamp goes to the dead letters; 0 = none does.
    pub(crate) max_future: Span,
    /// A partition that has been read up to the broker's high watermark and brought nothing for this long holds no window
    /// open; 0 = it does so as long as any other, which `idle_micros` in the SQL says.
    pub(crate) caught_up_idle: Span,
    /// Memory that the open windows of one pipeline may take; 0 = any.
    pub(crate) state_limit: ByteSize,
    /// How often source topics are asked for new partitions.
    pub(crate) refresh: Span,
    /// Table name in the SQL → topic to read instead.
    pub(crate) sources: BTreeMap<String, String>,
    /// Table name in the SQL → the column whose text is the key of its records, for pipelines that processes share.
    pub(crate) record_keys: BTreeMap<String, String>,
    /// Table name in the SQL → how its records are written, instead of the table's format.
    pub(crate) formats: BTreeMap<String, TableFormat>,
}

/// How the records of a table are written, where the SQL can't say it. Paths are relative to the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum TableFormat {
    /// One Protobuf message a record, described by what `protoc --include_imports --descriptor_set_out` writes.
    Protobuf { descriptor_set: String, message: String },
    /// Protobuf in Confluent's wire format, described in the schema registry.
    ProtobufRegistry {},
    /// Bare Avro data of the schema in this file.
    Avro { schema: String },
    /// Avro in Confluent's wire format, described in the schema registry.
    AvroRegistry {},
}

/// Where schemas are that records name by id, for all tables that read such records.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SchemaRegistry {
    /// Empty: as the SQL says.
    pub(crate) endpoint: String,
    pub(crate) api_key: String,
    pub(crate) api_secret: String,
}

impl SchemaRegistry {
    /// `None` = as the SQL says.
    pub(crate) fn settings(&self) -> Option<RegistrySettings> {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let endpoint = given(&self.endpoint)?;
        Some(RegistrySettings { endpoint, api_key: given(&self.api_key), api_secret: given(&self.api_secret) })
    }
}

/// Calendars of events that are kept outside Kafka.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Calendars {
    pub(crate) files: Vec<String>,
    pub(crate) holidays: Vec<String>,
    pub(crate) time_zone: String,
    pub(crate) refresh: Span,
}

/// How often a feature row is written to its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Delivery {
    /// Once for readers of committed records, whatever crashes when.
    ExactlyOnce,
    /// Once, and again after a crash: for brokers without transactions.
    AtLeastOnce,
}

impl From<Delivery> for prescale_pipeline::Delivery {
    fn from(delivery: Delivery) -> Self {
        match delivery {
            Delivery::ExactlyOnce => Self::ExactlyOnce,
            Delivery::AtLeastOnce => Self::AtLeastOnce,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) dir: String,
    /// Where checkpoints and outboxes of pipelines are, if not in `dir`: `s3://bucket/prefix` or `file:///folder`.
    pub(crate) checkpoints: String,
    /// Where versions of models are, if not in `models` of `dir`: `s3://bucket/prefix` or `file:///folder`.
    pub(crate) models: String,
    pub(crate) snapshot_windows: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Serve {
    pub(crate) listen: String,
    pub(crate) writers: Writers,
}

/// What would have run beside what really ran.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShadowConfig {
    pub(crate) enabled: bool,
    /// Folder of the daily reports, if not `shadow` of `state.dir`.
    pub(crate) reports: String,
}

/// How decisions are made.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    /// A ready-made policy, whose fields are those that are not said here.
    #[serde(default)]
    pub(crate) template: Option<String>,
    /// The template by what the units do: `general`, `embedding`, `generation`, `classification`.
    #[serde(default)]
    pub(crate) pool: Option<String>,
    pub(crate) rule: PlanningRule,
    pub(crate) budget_period: Span,
    pub(crate) risk_max: f64,
    pub(crate) churn: Span,
    /// Utilization by the newest load that is planned for at most; unset, the forecast decides.
    #[serde(default)]
    pub(crate) utilization_max: Option<f64>,
    pub(crate) headroom: f64,
    pub(crate) confidence_min: f64,
    pub(crate) target_utilization: f64,
    pub(crate) scale_up_at: f64,
    pub(crate) scale_down_at: f64,
    pub(crate) predictive: bool,
    pub(crate) smoothing: f64,
    pub(crate) decision_interval: Span,
    pub(crate) fast_interval: Span,
    /// How often what changes slowly is looked at again: what a unit carries.
    pub(crate) slow_interval: Span,
    pub(crate) step_up_units: u32,
    pub(crate) step_down_units: u32,
    pub(crate) cooldown_up: Span,
    pub(crate) cooldown_down: Span,
    pub(crate) stabilization_down: Span,
    pub(crate) hysteresis: f64,
    pub(crate) reactive_utilization: f64,
    pub(crate) stale_after: Span,
    pub(crate) blind_after: Span,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeadTimes {
    pub(crate) provisioning_latency: Span,
    pub(crate) warm_up: Span,
    pub(crate) learn: bool,
}

/// One service.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceConfig {
    pub(crate) name: String,
    /// The features column that is forecast.
    #[serde(default = "default_signal")]
    pub(crate) signal: String,
    /// What the LSTM looks at beside the load: feature columns (`error_rate` is made of errors and requests), the loads of
    /// other services as `service:NAME`, and `standard` for the usual columns, as far as they are measured.
    #[serde(default)]
    pub(crate) covariates: Vec<String>,
    /// Services that it calls: what its load does to theirs is learnt, and lifts their forecasts.
    #[serde(default)]
    pub(crate) calls: Vec<String>,
    /// Columns of the features that tell what happens around it.
    #[serde(default)]
    pub(crate) signals: SignalColumns,
    /// Load that one unit carries within the objective, in the unit of the signal.
    pub(crate) unit_capacity: f64,
    #[serde(default)]
    pub(crate) mode: Option<Mode>,
    #[serde(default)]
    pub(crate) objective: Objective,
    #[serde(default)]
    pub(crate) policy: PolicyOverride,
    #[serde(default)]
    pub(crate) lead_time: LeadTimeOverride,
    /// How far ahead its load can be forecast with confidence, where that is known to be less than the whole horizon.
    #[serde(default)]
    pub(crate) confident_horizon: Option<Span>,
    /// Where units come later than that, the reactive rule alone may scale it.
    #[serde(default)]
    pub(crate) allow_reactive_only: bool,
    /// The rules around the planner, where they differ from `[rules]`.
    #[serde(default)]
    pub(crate) rules: Option<RuleSettings>,
    /// What one unit takes of the limits.
    #[serde(default)]
    pub(crate) unit: Resources,
    /// Its weight where `fleet_limits` have not enough for all: of twice the weight, twice the part.
    #[serde(default = "default_criticality")]
    pub(crate) criticality: f64,
    /// Its units are members of one consumer group, and share so many partitions.
    #[serde(default)]
    pub(crate) partitions: Option<u32>,
    /// The IANA zone of its users; default: calendars.time_zone.
    #[serde(default)]
    pub(crate) time_zone: Option<String>,
    /// When they are at work, as clocks there show it: `Mon-Fri 09:00-17:00`, which is the default.
    #[serde(default)]
    pub(crate) business_hours: Option<String>,
    /// Its load from before Prescale heard it.
    #[serde(default)]
    pub(crate) history: Option<HistorySource>,
    /// Where its load can be asked for while the stream is silent.
    #[serde(default)]
    pub(crate) fallback: Option<FallbackSource>,
    /// Where it is the nodes under the pods of other services: its load is made of theirs. `unit_capacity` is 1.
    #[serde(default)]
    pub(crate) nodes: Option<NodesConfig>,
    pub(crate) target: TargetSettings,
}

fn default_signal() -> String {
    "requests_per_second".to_owned()
}

/// What users of the service are promised.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Objective {
    /// Response time that `quantile` of the requests stay within.
    #[serde(default)]
    pub(crate) latency: Option<Span>,
    #[serde(default)]
    pub(crate) quantile: Option<f64>,
    /// Share of time that may be under-provisioned; default 0.01.
    #[serde(default)]
    pub(crate) violation_budget: Option<f64>,
    /// What a missed unit of load costs while it lasts an hour, in USD: with it and the target's price risk follows from
    /// costs instead of from the budget.
    #[serde(default)]
    pub(crate) missed_usd_hour: Option<f64>,
}

/// What one service does otherwise than `[policy]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyOverride {
    /// A ready-made policy, whose fields are those that are not said here.
    #[serde(default)]
    pub(crate) template: Option<String>,
    /// The template by what the units do: `general`, `embedding`, `generation`, `classification`.
    #[serde(default)]
    pub(crate) pool: Option<String>,
    #[serde(default)]
    pub(crate) rule: Option<PlanningRule>,
    /// Quantile of the forecast that capacity must cover by the rule `ceiling`, and above which a load is a surprise;
    /// overrides the objective's.
    #[serde(default)]
    pub(crate) quantile: Option<f64>,
    #[serde(default)]
    pub(crate) budget_period: Option<Span>,
    #[serde(default)]
    pub(crate) risk_max: Option<f64>,
    #[serde(default)]
    pub(crate) churn: Option<Span>,
    #[serde(default)]
    pub(crate) utilization_max: Option<f64>,
    #[serde(default)]
    pub(crate) headroom: Option<f64>,
    #[serde(default)]
    pub(crate) confidence_min: Option<f64>,
    #[serde(default)]
    pub(crate) target_utilization: Option<f64>,
    /// Of the rule `weighted-triggers`.
    #[serde(default)]
    pub(crate) triggers: Vec<Trigger>,
    #[serde(default)]
    pub(crate) scale_up_at: Option<f64>,
    #[serde(default)]
    pub(crate) scale_down_at: Option<f64>,
    #[serde(default)]
    pub(crate) predictive: Option<bool>,
    #[serde(default)]
    pub(crate) smoothing: Option<f64>,
    #[serde(default)]
    pub(crate) step_up_units: Option<u32>,
    #[serde(default)]
    pub(crate) step_down_units: Option<u32>,
    #[serde(default)]
    pub(crate) cooldown_up: Option<Span>,
    #[serde(default)]
    pub(crate) cooldown_down: Option<Span>,
    #[serde(default)]
    pub(crate) stabilization_down: Option<Span>,
    #[serde(default)]
    pub(crate) hysteresis: Option<f64>,
    #[serde(default)]
    pub(crate) reactive_utilization: Option<f64>,
    #[serde(default)]
    pub(crate) stale_after: Option<Span>,
    #[serde(default)]
    pub(crate) blind_after: Option<Span>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeadTimeOverride {
    /// Nine times out of ten it takes no longer.
    #[serde(default)]
    pub(crate) provisioning_latency: Option<Span>,
    /// Every second time it takes no longer; default: not known.
    #[serde(default)]
    pub(crate) provisioning_median: Option<Span>,
    #[serde(default)]
    pub(crate) warm_up: Option<Span>,
    /// Whether what its units took replaces what is said here, once enough were seen.
    #[serde(default)]
    pub(crate) learn: Option<bool>,
}

/// Share of time that may be under-provisioned where a service does not say.
const VIOLATION_BUDGET: f64 = 0.01;

/// The quantile leaves out this multiple of the budget: capacity covers the worst of several windows and is rounded up to
/// whole units, so that time under-provisioned stays below the budget all the same.
const BUDGET_USED: f64 = 1.3;

/// The quantile above which a load is a surprise, where risk is not the same at all times.
const SURPRISE: f64 = 0.99;

impl ServiceConfig {
    /// The names of all covariates, the standard ones one by one.
    pub(crate) fn all_covariates(&self) -> Vec<String> {
        prescale_features::expanded(&self.covariates)
    }

    /// The rules of this service: its own, or those of `[policy]`.
    pub(crate) fn policy_settings(&self, policy: &Policy) -> PolicySettings {
        let own = &self.policy;
        let budget = self.objective.violation_budget.unwrap_or(VIOLATION_BUDGET);
        PolicySettings {
            unit_capacity: self.unit_capacity,
            min_units: self.target.min(),
            max_units: self.target.max(),
            quantile: own.quantile.unwrap_or(match own.rule.unwrap_or(policy.rule) {
                PlanningRule::RiskBudget => SURPRISE,
                _ => 1.0 - BUDGET_USED * budget,
            }),
            step_up_units: own.step_up_units.unwrap_or(policy.step_up_units),
            step_down_units: own.step_down_units.unwrap_or(policy.step_down_units),
            cooldown_up: own.cooldown_up.unwrap_or(policy.cooldown_up),
            cooldown_down: own.cooldown_down.unwrap_or(policy.cooldown_down),
            stabilization_down: own.stabilization_down.unwrap_or(policy.stabilization_down),
            hysteresis: own.hysteresis.unwrap_or(policy.hysteresis),
            reactive_utilization: own.reactive_utilization.unwrap_or(policy.reactive_utilization),
            stale_after: own.stale_after.unwrap_or(policy.stale_after),
            blind_after: own.blind_after.unwrap_or(policy.blind_after),
            planning: PlanningSettings {
                rule: own.rule.unwrap_or(policy.rule),
                violation_budget: budget,
                budget_period: own.budget_period.unwrap_or(policy.budget_period),
                risk_max: own.risk_max.unwrap_or(policy.risk_max),
                missed_usd_hour: self.objective.missed_usd_hour,
                price_usd_hour: self.target.price_usd_hour(),
                churn: own.churn.unwrap_or(policy.churn),
                utilization_max: own.utilization_max.or(policy.utilization_max),
                headroom: own.headroom.unwrap_or(policy.headroom),
                confidence_min: own.confidence_min.unwrap_or(policy.confidence_min),
                target_utilization: own.target_utilization.unwrap_or(policy.target_utilization),
                triggers: own.triggers.clone(),
                scale_up_at: own.scale_up_at.unwrap_or(policy.scale_up_at),
                scale_down_at: own.scale_down_at.unwrap_or(policy.scale_down_at),
                predictive: own.predictive.unwrap_or(policy.predictive),
                smoothing: own.smoothing.unwrap_or(policy.smoothing),
            },
        }
    }

    /// How far ahead its load is forecast with confidence.
    pub(crate) fn horizon(&self, config: &Config) -> Span {
        let whole = Span::from_millis(config.forecast.step.millis() * i64::from(config.forecast.horizon_steps));
        self.confident_horizon.map_or(whole, |confident| confident.min(whole))
    }

    /// The median of the provisioning latency, where it is known apart from the p90.
    pub(crate) fn provisioning_median(&self) -> Option<Span> {
        let of_target = self.target.simulated().map(|settings| settings.fleet.provisioning_latency);
        self.lead_time.provisioning_median.or(of_target.filter(|_| self.lead_time.provisioning_latency.is_none()))
    }

    /// When its users are at work.
    ///
    /// # Errors
    /// The key that can't be used, and why.
    pub(crate) fn opening_hours(&self, default_zone: Zone) -> Result<OpeningHours, (&'static str, String)> {
        let zone = self.time_zone.as_deref().map(str::parse::<Zone>).transpose();
        let zone = zone.map_err(|error| ("time_zone", error.to_string()))?.unwrap_or(default_zone);
        match &self.business_hours {
            None => Ok(OpeningHours::usual(zone)),
            Some(text) => OpeningHours::parse(text, zone).map_err(|error| ("business_hours", error.to_string())),
        }
    }

    pub(crate) fn lead_times(&self, defaults: LeadTimes) -> LeadTimes {
        LeadTimes {
            provisioning_latency: self.lead_time.provisioning_latency.unwrap_or(defaults.provisioning_latency),
            warm_up: self.lead_time.warm_up.unwrap_or(defaults.warm_up),
            learn: self.lead_time.learn.unwrap_or(defaults.learn),
        }
    }
}

fn default_criticality() -> f64 {
    1.0
}

/// A service with nothing but what has no default.
pub(crate) fn service(name: &str, unit_capacity: f64, target: TargetSettings) -> ServiceConfig {
    ServiceConfig {
        name: name.to_owned(),
        signal: default_signal(),
        covariates: Vec::new(),
        calls: Vec::new(),
        signals: SignalColumns::default(),
        unit_capacity,
        mode: None,
        objective: Objective::default(),
        policy: PolicyOverride::default(),
        lead_time: LeadTimeOverride::default(),
        confident_horizon: None,
        allow_reactive_only: false,
        rules: None,
        unit: Resources::default(),
        criticality: default_criticality(),
        partitions: None,
        time_zone: None,
        business_hours: None,
        history: None,
        fallback: None,
        nodes: None,
        target,
    }
}
