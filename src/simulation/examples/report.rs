//! Renders the JSON of a back-test anew as a page: for looking at changes of the page.
//! `cargo run -p prescale-simulation --example report < report.json > report.html`

#![expect(clippy::print_stdout, reason = "a program for people")]

use prescale_simulation::report::{BacktestReport, html};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut report: BacktestReport = serde_json::from_reader(std::io::stdin().lock())?;
    // It follows from the rest.
    report.card.shift_remove("headline");
    println!("{}", html(&report));
    Ok(())
}
