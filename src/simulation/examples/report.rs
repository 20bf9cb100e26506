//! Renders the JSON of a back-test anew, as a page and as a table: for looking at changes of the page.
//! `cargo run -p prescale-simulation --example report -- report.json report.html`

#![expect(clippy::print_stdout, reason = "a program for people")]

use prescale_simulation::report::{BacktestReport, html, table};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths = std::env::args().skip(1);
    let (Some(from), Some(to)) = (paths.next(), paths.next()) else {
        return Err("name the JSON to read and the page to write".into());
    };
    let mut report: BacktestReport = serde_json::from_str(&std::fs::read_to_string(from)?)?;
    // It follows from the rest.
    report.card.shift_remove("headline");
    std::fs::write(to, html(&report))?;
    println!("{}", table(&report));
    Ok(())
}
