//! Alerting rules for Prometheus, on Prescale's own metrics. Rule: one for each state in which somebody should look; each says
//! what holds meanwhile and what to do.

use serde_json::{Value, json};

use crate::config::Config;

struct Alert {
    name: &'static str,
    expression: String,
    /// How long it has to hold.
    pending: &'static str,
    severity: &'static str,
    summary: &'static str,
    description: &'static str,
}

/// A rule file with one group.
pub(super) fn rules(config: &Config) -> Value {
    let mut alerts = general();
    if !config.lease.place.is_empty() {
        alerts.push(Alert {
            name: "PrescaleNobodyActs",
            expression: "max(prescale_actuate_lease_held) < 1".to_owned(),
            pending: "2m",
            severity: "critical",
            summary: "No replica of Prescale has the lease",
            description: "Nothing is scaled. Look whether the lease's place can be reached and written by the replicas.",
        });
    }
    let at_max = config.services.iter().map(|service| {
        let (name, max) = (&service.name, service.target.max());
        format!("prescale_controller_desired_units{{service=\"{name}\"}} >= {max}")
    });
    let at_max: Vec<String> = at_max.collect();
    if !at_max.is_empty() {
        alerts.push(Alert {
            name: "PrescaleAtMaximum",
            expression: at_max.join(" or "),
            pending: "15m",
            severity: "warning",
            summary: "{{ $labels.service }} wants all that it may have",
            description: "What is needed above `max` is not there. Raise the target's `max`, or see `prescale explain`.",
        });
    }
    let rules: Vec<Value> = alerts.into_iter().map(Alert::rule).collect();
    json!({"groups": [{"name": "prescale", "rules": rules}]})
}

impl Alert {
    fn rule(self) -> Value {
        json!({
            "alert": self.name,
            "expr": self.expression,
            "for": self.pending,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "description": self.description},
        })
    }
}

fn general() -> Vec<Alert> {
    let alert = |name, expression: &str, pending, severity, summary, description| Alert {
        name,
        expression: expression.to_owned(),
        pending,
        severity,
        summary,
        description,
    };
    vec![
        alert(
            "PrescaleSilent",
            "absent(prescale_controller_decisions_total) or sum(increase(prescale_controller_decisions_total[10m])) == 0",
            "5m",
            "critical",
            "Prescale decides nothing",
            "Capacity stays as it is. Look whether it runs and is scraped, and at its log.",
        ),
        alert(
            "PrescaleBlind",
            "prescale_controller_load_source == 2",
            "1m",
            "critical",
            "Nobody tells the load of {{ $labels.service }}",
            "Its capacity is held and never taken back. Look at its producers, the topic and the other source.",
        ),
        alert(
            "PrescaleOnFallback",
            "prescale_controller_load_source == 1",
            "5m",
            "warning",
            "The stream of {{ $labels.service }} is silent",
            "It is scaled by the other source, and only up. Look at its producers and at the pipeline's lag.",
        ),
        alert(
            "PrescaleCannotAct",
            "sum by (service) (increase(prescale_controller_actuations_total{outcome=\"failed\"}[10m])) >= 3",
            "0m",
            "critical",
            "Changes of {{ $labels.service }} fail",
            "The topic `actuations` and the log say why.",
        ),
        alert(
            "PrescaleCannotLook",
            "sum by (service) (increase(prescale_controller_unobservable_total[10m])) >= 3",
            "0m",
            "warning",
            "The target of {{ $labels.service }} can't be observed",
            "Nothing is changed meanwhile. The log says why.",
        ),
        alert(
            "PrescaleLaunchesRefused",
            "increase(prescale_actuate_launches_refused_total[15m]) > 0",
            "0m",
            "warning",
            "A cloud does not launch what is wanted",
            "The log has the cloud's words: a quota, a lack of capacity, or a faulty launch template.",
        ),
        alert(
            "PrescaleDeadLetters",
            "sum(rate(prescale_ingest_dead_letters_total[5m])) > 0.01 * sum(rate(prescale_ingest_read_records_total[5m]))",
            "10m",
            "warning",
            "More than 1 % of the records are dead letters",
            "The topic `dead-letters` has each with its reason.",
        ),
        alert(
            "PrescalePaused",
            "prescale_controller_paused == 1",
            "1d",
            "info",
            "Changes of {{ $labels.service }} have been stopped for a day",
            "`GET /api/v1/pause` says who stopped them and why.",
        ),
    ]
}
