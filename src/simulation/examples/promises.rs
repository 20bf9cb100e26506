//! Prints what is promised of prediction beside what comes of it, on crowds and on plain days, as a table and as JSON:
//! `cargo run -p prescale-simulation --example promises`

#![expect(clippy::print_stdout, reason = "the figures are the result")]

use prescale_simulation::acceptance::{promises, render};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let promised = promises(&[1, 2, 3])?;
    println!("{}{}", render(&promised), serde_json::to_string_pretty(&promised)?);
    Ok(())
}
