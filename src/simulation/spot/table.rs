//! The table of markets and strategies. Rule: what is averaged is averaged over seeds.

use std::fmt::Write as _;

use super::play::{Limit, Outcome, Strategy};

/// A strategy on a market, by seed.
#[derive(Clone, Debug)]
pub struct Row {
    pub market: String,
    pub strategy: Strategy,
    pub outcomes: Vec<Outcome>,
    /// All on-demand on the same seeds.
    pub on_demand: Vec<Outcome>,
}

impl Row {
    pub fn mean(&self, of: impl Fn(&Outcome) -> f64) -> f64 {
        self.outcomes.iter().map(of).sum::<f64>() / self.outcomes.len().max(1) as f64
    }

    /// Share of the cost of all on-demand that is saved.
    pub fn saved(&self) -> Option<f64> {
        self.saved_of(|outcome| outcome.lived.cost_usd)
    }

    /// The same while some pool had a unit to give.
    pub fn saved_while_obtainable(&self) -> Option<f64> {
        self.saved_of(|outcome| outcome.usd_while_obtainable)
    }

    fn saved_of(&self, of: impl Fn(&Outcome) -> f64) -> Option<f64> {
        let sum = |outcomes: &[Outcome]| outcomes.iter().map(&of).sum::<f64>();
        let whole = sum(&self.on_demand);
        (whole > 0.0).then(|| 1.0 - sum(&self.outcomes) / whole)
    }
}

/// As text. `limits` has the limit of each market, by name.
pub fn render(rows: &[Row], limits: &[(String, Limit)]) -> String {
    let mut text = format!(
        "{:<22} {:<16} {:>9} {:>8} {:>10} {:>8} {:>8} {:>16} {:>9} {:>9}\n",
        "market",
        "strategy",
        "cost USD",
        "saved %",
        "obtain. %",
        "short %",
        "missed %",
        "notices survived",
        "launches",
        "refused"
    );
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1}", 100.0 * share));
    let mut market = "";
    for row in rows {
        if row.market != market {
            market = &row.market;
            if let Some((_, limit)) = limits.iter().find(|(name, _)| name == market) {
                let whole: f64 = row.on_demand.iter().map(|outcome| outcome.lived.cost_usd).sum();
                let saved = 1.0 - limit.cost_usd * row.on_demand.len() as f64 / whole;
                // Writing to a string cannot fail.
                let _written = writeln!(
                    text,
                    "{market:<22} {:<16} {:>9.0} {:>8.1} (some pool had units {:.1} % of the time, all wanted {:.1} %)",
                    "limit",
                    limit.cost_usd,
                    100.0 * saved,
                    100.0 * limit.some,
                    100.0 * limit.all
                );
            }
        }
        let _written = writeln!(
            text,
            "{:<22} {:<16} {:>9.0} {:>8} {:>10} {:>8.3} {:>8.4} {:>16} {:>9.0} {:>9.0}",
            row.market,
            row.strategy.name(),
            row.mean(|outcome| outcome.lived.cost_usd),
            percent(row.saved()),
            percent(row.saved_while_obtainable()),
            100.0 * row.mean(|outcome| outcome.short),
            100.0 * row.mean(|outcome| outcome.missed),
            format!("{:.0} of {:.0}", row.mean(|o| o.survived as f64), row.mean(|o| o.interruptions as f64)),
            row.mean(|outcome| outcome.lived.launches as f64),
            row.mean(|outcome| outcome.lived.refusals as f64),
        );
    }
    text
}
